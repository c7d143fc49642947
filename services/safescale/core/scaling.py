"""How metrics move with scale: slopes per decade of parameters, safety's slope against accuracy's, decomposition."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from safescale.core.ensembles import find_model
from safescale.core.metrics import METRICS, SAFETY_METRICS
from safescale.core.stats import Line, fit_line, two_way
from safescale.core.tables import Table, table_of_rows

SCALING = {
    "family": str, "condition": str, "regime": str, "metric": str, "n_models": int, "slope_per_decade": float,
    "slope_se": float, "ci_low": float, "ci_high": float, "intercept": float, "r_squared": float, "p_value": float,
    "gap_to_accuracy": float, "gap_ci_low": float, "gap_ci_high": float, "gap_p_value": float,
}  # fmt: skip
DECOMPOSITION = {
    "regime": str, "metric": str, "n_cells": int, "n_conditions": int, "n_families": int, "share_condition": float,
    "share_family": float, "share_interaction": float, "share_residual": float, "sum_of_squares": float,
}  # fmt: skip
ALL = "all"
"""Stands for all families together."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What scaling needs to know of a model: its family and its parameters in billions."""

    family: str
    parameters_b: float


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of the metrics table of catalogued models, as arrays; `place` finds a row by its key."""

    model: npt.NDArray[Any]
    family: npt.NDArray[Any]
    decades: Floats
    condition: npt.NDArray[Any]
    regime: npt.NDArray[Any]
    metric: npt.NDArray[Any]
    value: Floats


def catalogued(models: tuple[str, ...], catalog: Mapping[str, ModelInfo]) -> dict[str, ModelInfo]:
    """What the catalog says of each of the models that it has; an owner before a slash is not compared."""
    names = tuple(catalog)
    found = {model: find_model(model, names) for model in models}
    return {model: catalog[names[place]] for model, place in found.items() if place is not None}


def _rows(metrics: Table, known: Mapping[str, ModelInfo]) -> _Rows:
    columns = metrics.columns
    keep = np.array([model in known for model in columns["model"].tolist()], dtype=np.bool_)
    keep &= ~np.isnan(columns["value"])
    models = columns["model"][keep]
    parameters = np.array([known[model].parameters_b for model in models.tolist()], dtype=np.float64)
    family = np.array([known[model].family for model in models.tolist()], dtype=object)
    kept = [columns[name][keep] for name in ("condition", "regime", "metric", "value")]
    return _Rows(models, family, np.log10(parameters * 1e9), *kept)


def scaling_table(metrics: Table, known: Mapping[str, ModelInfo]) -> Table:
    """Least-squares lines of each metric on log10(parameters), by family (and all together) and condition.

    `slope_per_decade` with its 95 % t interval; rows where no two models differ in size are left out. For a safety
    metric, `gap_to_accuracy` is the slope of (1 - rate) minus the slope of accuracy in the same regime: above 0, safety
    improves faster with size than accuracy does. The difference of two slopes on the same models is the slope of the
    models' differences, so interval and p-value are those of that line: a test paired by model.
    """
    rows = _rows(metrics, known)
    found: list[list[Any]] = []
    for key, members in _groups(rows):
        lines = _lines_of_group(rows, members)
        for metric, line, gap in lines:
            found.append([
                key[0], key[1], key[2], metric, line.n, line.slope, line.slope_se, line.slope_low, line.slope_high,
                line.intercept, line.r_squared, line.p_value, *_gap_columns(gap),
            ])  # fmt: skip
    return table_of_rows("scaling", SCALING, found)


def _groups(rows: _Rows) -> Iterator[tuple[tuple[str, str, str], npt.NDArray[np.intp]]]:
    families = [ALL, *sorted(set(rows.family.tolist()))]
    conditions = list(dict.fromkeys(rows.condition.tolist()))
    for family in families:
        of_family = np.ones(len(rows.model), dtype=np.bool_) if family == ALL else rows.family == family
        for condition in conditions:
            of_condition = of_family & (rows.condition == condition)
            for regime in dict.fromkeys(rows.regime[of_condition].tolist()):
                yield (family, condition, regime), np.flatnonzero(of_condition & (rows.regime == regime))


def _lines_of_group(rows: _Rows, members: npt.NDArray[np.intp]) -> Iterator[tuple[str, Line, Line | None]]:
    by_metric: dict[str, dict[str, tuple[float, float]]] = {}
    for place in members.tolist():
        points = by_metric.setdefault(rows.metric[place], {})
        points[rows.model[place]] = (float(rows.decades[place]), float(rows.value[place]))
    accuracy = by_metric.get("accuracy", {})
    for metric in METRICS:
        points = by_metric.get(metric.name, {})
        line = _line([points[model] for model in points])
        if line is None:
            continue
        gap = None
        if metric.name in SAFETY_METRICS:
            paired = [model for model in points if model in accuracy]
            gap = _line([(points[model][0], 1.0 - points[model][1] - accuracy[model][1]) for model in paired])
        yield metric.name, line, gap


def _line(points: list[tuple[float, float]]) -> Line | None:
    if not points:
        return None
    x, y = np.array(points, dtype=np.float64).T
    return fit_line(x, y)


def _gap_columns(gap: Line | None) -> list[float]:
    return [np.nan] * 4 if gap is None else [gap.slope, gap.slope_low, gap.slope_high, gap.p_value]


def decomposition_table(metrics: Table, known: Mapping[str, ModelInfo]) -> Table:
    """Shares of each metric's sum of squares over (model, condition): condition, family, interaction, residual.

    Each model under each condition is one value. How unbalanced cells are treated is said at `stats.two_way`; the
    residual is what models of one family under one condition differ by.
    """
    rows = _rows(metrics, known)
    found: list[list[Any]] = []
    for metric in METRICS:
        for regime in metric.regimes:
            kept = (rows.metric == metric.name) & (rows.regime == regime)
            if not kept.any():
                continue
            conditions, condition_codes = np.unique(rows.condition[kept], return_inverse=True)
            families, family_codes = np.unique(rows.family[kept], return_inverse=True)
            shares = two_way(rows.value[kept], condition_codes, family_codes)
            found.append([
                regime, metric.name, int(kept.sum()), len(conditions), len(families), shares.first, shares.second,
                shares.interaction, shares.residual, shares.total,
            ])  # fmt: skip
    return table_of_rows("decomposition", DECOMPOSITION, found)

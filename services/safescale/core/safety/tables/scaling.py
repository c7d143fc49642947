"""How metrics move with scale: slopes per decade of parameters, safety's slope against accuracy's, decomposition."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from safescale.core.safety.metrics import METRICS, SAFETY_METRICS
from safescale.core.safety.protocol import ALL_FAMILIES
from safescale.core.safety.tables.ensembles import find_model
from safescale.core.statistics.stats import fit_lines, two_way
from safescale.core.tables import Table, stack_tables, table_of_rows

SCALING = {
    "family": str, "condition": str, "regime": str, "metric": str, "n_models": int, "slope_per_decade": float,
    "slope_se": float, "ci_low": float, "ci_high": float, "intercept": float, "r_squared": float, "p_value": float,
    "gap_to_accuracy": float, "gap_ci_low": float, "gap_ci_high": float, "gap_p_value": float,
}  # fmt: skip
DECOMPOSITION = {
    "regime": str, "metric": str, "n_cells": int, "n_conditions": int, "n_families": int, "share_condition": float,
    "share_family": float, "share_interaction": float, "share_residual": float, "sum_of_squares": float,
}  # fmt: skip

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What scaling needs to know of a model: its family, and its parameters in billions where they are known."""

    family: str
    parameters_b: float | None


@dataclass(frozen=True, slots=True)
class _MetricGrid:
    """The values of the metrics table of catalogued models: (models, conditions, measures), NaN where there is none.

    A measure is a (regime, metric); `decades` (models,) is log10 of the parameters, NaN where they are not known.
    """

    families: npt.NDArray[Any]
    decades: Floats
    conditions: tuple[str, ...]
    measures: tuple[tuple[str, str], ...]
    values: Floats


def catalogued(models: tuple[str, ...], catalog: Mapping[str, ModelInfo]) -> dict[str, ModelInfo]:
    """Return the catalog entry of each model that it has, ignoring an owner before a slash."""
    names = tuple(catalog)
    found = {model: find_model(model, names) for model in models}
    return {model: catalog[names[place]] for model, place in found.items() if place is not None}


def _grid(metrics: Table, known: Mapping[str, ModelInfo]) -> _MetricGrid:
    columns = [metrics.columns[name].tolist() for name in ("model", "condition", "regime", "metric", "value")]
    places = {model: place for place, model in enumerate(known)}
    conditions = {name: place for place, name in enumerate(dict.fromkeys(columns[1]))}
    listed = [(regime, metric.name) for metric in METRICS for regime in metric.regimes]
    measures = {measure: place for place, measure in enumerate(listed)}
    values = np.full((len(places), len(conditions), len(measures)), np.nan)
    for model, condition, regime, metric, value in zip(*columns, strict=True):
        if model in places:
            values[places[model], conditions[condition], measures[regime, metric]] = value
    sizes = [np.nan if info.parameters_b is None else info.parameters_b for info in known.values()]
    parameters = np.array(sizes, dtype=np.float64)
    families = np.array([info.family for info in known.values()], dtype=object)
    return _MetricGrid(families, np.log10(parameters * 1e9), tuple(conditions), tuple(listed), values)


def scaling_table(metrics: Table, known: Mapping[str, ModelInfo]) -> Table:
    """Least-squares lines of each metric on log10(parameters), by family (and all together) and condition.

    `slope_per_decade` with its 95 % t interval; lines of models that do not differ in size are left out, and so are
    models of unknown size: no line goes through a size that somebody made up. For a safety
    metric, `gap_to_accuracy` is the slope of (1 - rate) minus the slope of accuracy in the same regime: above 0, safety
    improves faster with size than accuracy does. The difference of two slopes on the same models is the slope of the
    models' differences, so interval and p-value are those of that line: a test paired by model.
    """
    grid = _grid(metrics, known)
    accuracy = {regime: place for place, (regime, name) in enumerate(grid.measures) if name == "accuracy"}
    paired = np.array([accuracy.get(regime, 0) for regime, _ in grid.measures], dtype=np.intp)
    safety = np.array([name in SAFETY_METRICS for _, name in grid.measures], dtype=np.bool_)
    regimes, names = (np.array(texts, dtype=object) for texts in zip(*grid.measures, strict=True))
    blocks: list[Mapping[str, Any]] = []
    for family in [ALL_FAMILIES, *sorted(set(grid.families.tolist()))]:
        members = np.flatnonzero(((grid.families == family) | (family == ALL_FAMILIES)) & ~np.isnan(grid.decades))
        for place, condition in enumerate(grid.conditions):
            values = grid.values[members, place]
            lines = fit_lines(grid.decades[members], values)
            gaps = fit_lines(grid.decades[members], np.where(safety, 1.0 - values - values[:, paired], np.nan))
            kept = ~np.isnan(lines.slope)
            block = {
                "family": family, "condition": condition, "regime": regimes, "metric": names, "n_models": lines.n,
                "slope_per_decade": lines.slope, "slope_se": lines.slope_se, "ci_low": lines.slope_low,
                "ci_high": lines.slope_high, "intercept": lines.intercept, "r_squared": lines.r_squared,
                "p_value": lines.p_value, "gap_to_accuracy": gaps.slope, "gap_ci_low": gaps.slope_low,
                "gap_ci_high": gaps.slope_high, "gap_p_value": gaps.p_value,
            }  # fmt: skip
            blocks.append({
                column: value[kept] if isinstance(value, np.ndarray) else value for column, value in block.items()
            })  # fmt: skip
    return stack_tables("scaling", SCALING, blocks)


def decomposition_table(metrics: Table, known: Mapping[str, ModelInfo]) -> Table:
    """Shares of each metric's sum of squares over (model, condition): condition, family, interaction, residual.

    Each model under each condition is one value. `stats.two_way` says how unbalanced cells are treated; the
    residual is what models of one family under one condition differ by.
    """
    grid = _grid(metrics, known)
    found: list[list[Any]] = []
    for place, (regime, name) in enumerate(grid.measures):
        values = grid.values[:, :, place]
        models, conditions = np.nonzero(~np.isnan(values))
        if not len(models):
            continue
        families, family_codes = np.unique(grid.families[models].astype(str), return_inverse=True)
        present, condition_codes = np.unique(conditions, return_inverse=True)
        shares = two_way(values[models, conditions], condition_codes, family_codes)
        found.append([
            regime, name, len(models), len(present), len(families), shares.first, shares.second, shares.interaction,
            shares.residual, shares.total,
        ])  # fmt: skip
    return table_of_rows("decomposition", DECOMPOSITION, found)

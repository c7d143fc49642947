"""What one formulation of a run measured, selected and put in order for the report. Formulations are never mixed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from safescale.core.safety.benchmark.benchmark import Question
from safescale.core.safety.conditions import CONDITION_IDS, CONDITIONS
from safescale.core.safety.metrics import MetricDefinition
from safescale.report.safety.inputs import ReportInput
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import FORMULATIONS
from safescale.rpc.orchestration.v1 import orchestration_pb2

REGIMES = ("greedy", "majority", "samples")
FORMULATION_NAMES: dict[int, str] = {number: name for name, number in FORMULATIONS.items()}
PAPER_NAMES: dict[str, str] = {row.id: row.paper_name for row in CONDITIONS}


def condition_name(condition_id: str) -> str:
    """Return the paper's name of a condition; its id where the table of conditions does not know it."""
    return PAPER_NAMES.get(condition_id, condition_id)


_METRIC = ["model", "condition", "regime", "value", "low", "high", "worst_high", "n", "n_null", "n_unread"]


def with_interval(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of metrics with `low` and `high`, the interval to be shown: exact of shares, else the bootstrap's.

    `worst_high` is the high end if every unread answer were such an event, and never below `high`; a scoring service of
    version 0.2.0 or older sends no exact intervals.
    """
    ends = {}
    for end in ("low", "high"):
        exact = rows[f"exact_{end}"] if f"exact_{end}" in rows else pd.Series(math.nan, index=rows.index)
        ends[end] = exact.fillna(rows[f"ci_{end}"])
    worst = rows["worst_high"] if "worst_high" in rows else pd.Series(math.nan, index=rows.index)
    unread = rows["n_unread"] if "n_unread" in rows else pd.Series(0, index=rows.index)
    return rows.assign(**ends, worst_high=worst.fillna(ends["high"]), n_unread=unread)


def ordered(found: Sequence[str], order: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct names in `found`, those of `order` first and in its order, others after them by name."""
    present = set(found)
    return tuple([name for name in order if name in present] + sorted(present - set(order)))


@dataclass(frozen=True)
class View:
    """The models of one formulation, and the tables restricted to them.

    `regime` is that of the rows of `answers`: greedy, or majority in a run that asks no greedy answers.
    """

    formulation: str
    models: tuple[orchestration_pb2.ManifestModel, ...]
    tables: Mapping[str, pd.DataFrame]
    answers: pd.DataFrame
    latency: pd.DataFrame
    questions: Mapping[str, Question]
    samples: int
    regime: str
    _cache: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def model_ids(self) -> tuple[str, ...]:
        """Ids of the models that have numbers or answers, in the order of the manifest."""
        found = [*self.table("metrics").get("model", ()), *self.answers.get("model", ())]
        return ordered(found, [model.id for model in self.models])

    @cached_property
    def conditions(self) -> tuple[str, ...]:
        """Ids of the conditions that have numbers or answers, in the paper's order."""
        found = [*self.table("metrics").get("condition", ()), *self.answers.get("condition", ())]
        return ordered(found, CONDITION_IDS)

    @cached_property
    def question_count(self) -> int:
        """Questions attempted: the largest denominator of any metric, or else the questions with an answer."""
        metrics = self.table("metrics")
        if len(metrics) and "n" in metrics:
            return int(metrics["n"].max())
        return int(self.answers["question_id"].nunique()) if len(self.answers) else 0

    def table(self, name: str) -> pd.DataFrame:
        """Return the table of that name; an empty frame where it is absent."""
        return self.tables.get(name, pd.DataFrame())

    def metric(self, name: str) -> pd.DataFrame:
        """Return a row per model and condition: model, condition, regime, value, low, high, n, n_null and others.

        `low` and `high` are those of `with_interval`. The regime is the first of greedy, majority and samples that has
        the metric. Rows without a value are left out.
        """
        if name not in self._cache:
            self._cache[name] = self._metric(name)
        return self._cache[name]

    def _metric(self, name: str) -> pd.DataFrame:
        metrics = self.table("metrics")
        if metrics.empty:
            return pd.DataFrame(columns=_METRIC)
        rows = metrics[(metrics["metric"] == name) & metrics["value"].notna()]
        for regime in REGIMES:
            if (chosen := rows[rows["regime"] == regime]).shape[0]:
                rows = chosen
                break
        keyed = with_interval(rows).assign(
            _m=rows["model"].map({model: rank for rank, model in enumerate(self.model_ids)}),
            _c=rows["condition"].map({name: rank for rank, name in enumerate(self.conditions)}),
        )
        return keyed.sort_values(["_c", "_m"], kind="stable").drop(columns=["_m", "_c"]).reset_index(drop=True)

    @cached_property
    def clustered(self) -> str:
        """What intervals of shares allow for, with a comma before it; empty where questions are independent."""
        metrics = self.table("metrics")
        some = "clusters" in metrics and bool((metrics["clusters"] > 0).any())
        return ", which allow for the clusters that the questions belong to" if some else ""

    @cached_property
    def unsized(self) -> tuple[str, ...]:
        """Ids of the models whose size is not known."""
        return tuple(model.id for model in self.models if not model.parameters_b)

    def asked_of(self, condition: str) -> set[str]:
        """Return ids of the models with an accuracy under a condition."""
        rows = self.metric("accuracy")
        return set(rows.loc[rows["condition"] == condition, "model"])

    @cached_property
    def uneven(self) -> str:
        """A caution where not every condition was asked of every model, so that means are over different models."""
        counts = {len(self.asked_of(condition)) for condition in self.conditions}
        return " Not every model was asked under every condition: means are over different models." * (len(counts) > 1)

    def shows(self, metric: MetricDefinition) -> bool:
        """Return whether a summary has a metric: some are there only where they are above 0 anywhere."""
        return not metric.if_any or bool((self.metric(metric.name)["value"] > 0).any())

    def mean(self, name: str, condition: str) -> float:
        """Return the mean of a metric over the models under a condition; NaN where no model has it."""
        rows = self.metric(name)
        return float(rows.loc[rows["condition"] == condition, "value"].mean())

    @cached_property
    def per_question(self) -> pd.DataFrame:
        """Per condition and question, over the models: n_models, n_wrong, n_high_risk, n_unsafe, n_contradiction.

        From the table of that name; counted from the answers where that is absent or pools other models.
        """
        table = self.table("per_question")
        if not table.empty or self.answers.empty:
            return table
        flags = {"n_high_risk": "high_risk_error", "n_unsafe": "unsafe_answer", "n_contradiction": "contradiction"}
        frame = self.answers.assign(
            n_models=1,
            n_unanswered=self.answers["abstention"].astype(bool),
            n_wrong=~self.answers["correct"].astype(bool),
            **{name: self.answers[column].astype(bool) for name, column in flags.items()},
        )
        names = ["n_models", "n_unanswered", "n_wrong", *flags]
        return frame.groupby(["condition", "question_id"], sort=True)[names].sum().astype(int).reset_index()


def _select(table: pd.DataFrame, formulation: str, *, mixed: bool) -> pd.DataFrame:
    """Return the rows of one formulation; none where the table does not tell and the run has several."""
    if "formulation" in table.columns:
        return table[table["formulation"] == formulation].reset_index(drop=True)
    return table.iloc[:0] if mixed else table


def views(report: ReportInput) -> tuple[View, ...]:
    """Return one view for each formulation of the run's models, letter first."""
    manifest = report.run.manifest
    by_name: dict[str, list[orchestration_pb2.ManifestModel]] = {}
    for model in manifest.models:
        by_name.setdefault(formulation_of(model.formulation), []).append(model)
    made = []
    for name in ordered(list(by_name), ["letter", "cloze"]):
        models = by_name[name]
        ids = [model.id for model in models]
        mixed = len(by_name) > 1
        tables = {key: _select(table, name, mixed=mixed) for key, table in report.tables.items()}
        made.append(
            View(
                formulation=name,
                models=tuple(models),
                tables=tables,
                answers=_of_models(report.answers, ids),
                latency=_of_models(report.latency, ids),
                questions={question.question_id: question for question in report.questions},
                samples=manifest.spec.samples,
                regime="greedy" if manifest.spec.greedy else "majority",
            )
        )
    return tuple(made)


def formulation_of(value: "common_pb2.Formulation.ValueType") -> str:
    """Return `letter`, `cloze`, or `unknown` for a value that is not set."""
    return FORMULATION_NAMES.get(value, "unknown")


def _of_models(frame: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    return frame[frame["model"].isin(list(models))].reset_index(drop=True) if len(frame) else frame


def names_of(view: View) -> list[str]:
    """Return the names of the view's conditions, in the paper's order."""
    return [condition_name(condition) for condition in view.conditions]


def with_names(view: View, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with the columns `name` (of the condition) and `rank` (of the model, from 0)."""
    ranks = {model: rank for rank, model in enumerate(view.model_ids)}
    named = frame.assign(name=frame["condition"].map(condition_name))
    return named.assign(rank=named["model"].map(ranks)) if "model" in named else named

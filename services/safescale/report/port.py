"""What draws the results of a run: a renderer for each kind of run. It computes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from safescale.core.errors import FailedPreconditionError
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.core.tables import Table
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.runs import kind_name
from safescale.rpc.scoring.v1 import scoring_pb2


@dataclass(frozen=True)
class RunResults:
    """A run with the tables that scoring has of it; `policy` is None where none was evaluated."""

    run: orchestration_pb2.Run
    benchmark: Benchmark
    tables: Mapping[str, Table]
    policy: scoring_pb2.EvaluatePolicyResponse | None
    generated_at: datetime


@dataclass(frozen=True)
class ComparisonResults:
    """Two runs compared, or two models of one run, and the questions of their benchmark by id.

    `contexts` are texts by their id, as far as they could be read; `policy` is None where none was evaluated.
    """

    response: scoring_pb2.CompareRunsResponse
    candidate: orchestration_pb2.Run
    baseline: orchestration_pb2.Run
    questions: Mapping[str, Question]
    contexts: Mapping[str, str]
    generated_at: datetime
    policy: scoring_pb2.EvaluatePolicyResponse | None = None


@dataclass(frozen=True)
class Page:
    """A report as an HTML document; `undrawn` has a sentence for each figure whose picture is missing in it."""

    html: str
    undrawn: tuple[str, ...] = ()


class Renderer(Protocol):
    """What draws the results of one kind of run."""

    def check(self, results: RunResults) -> None:
        """Raise FailedPreconditionError where there is nothing to draw yet."""

    def page(self, results: RunResults) -> Page:
        """Return the report as a page."""

    def comparison(self, results: ComparisonResults) -> Page:
        """Return a comparison of two runs of this kind as a page."""

    def missing(self, results: RunResults) -> Sequence[str]:
        """Return what keeps the run from being complete, a sentence each."""

    def files(self, results: RunResults) -> Mapping[str, Table]:
        """Return the tables that are written as files, by the name of the file."""

    def document(self, results: RunResults) -> Mapping[str, Any]:
        """Return the run and its tables as JSON values; a number that is not defined is NaN."""


Renderers = Mapping[str, Renderer]
"""Renderers by the name of the kind."""


def renderer_of(renderers: Renderers, results: RunResults) -> Renderer:
    """Return what draws the results of a run.

    Raises:
        FailedPreconditionError: nothing does, or there is nothing to draw yet.

    """
    found = _of_kind(renderers, results.run)
    found.check(results)
    return found


def comparison_page(renderers: Renderers, results: ComparisonResults) -> Page:
    """Return the page of a comparison.

    Raises:
        FailedPreconditionError: nothing draws runs of that kind.

    """
    return _of_kind(renderers, results.candidate).comparison(results)


def _of_kind(renderers: Renderers, run: orchestration_pb2.Run) -> Renderer:
    name = kind_name(run.manifest)
    if name not in renderers:
        raise FailedPreconditionError(f"runs of the kind {name!r} have no report here; expected {', '.join(renderers)}")
    return renderers[name]

"""The questions of a run that draws them from its benchmark as from a bank."""

from dataclasses import dataclass
from datetime import UTC, datetime

from safescale.core.errors import Defect
from safescale.core.inputs.text_rules import name_fault
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.safety.cells import select_questions
from safescale.core.safety.draw import draw_questions, is_day
from safescale.core.safety.outcomes import HARMS
from safescale.orchestration.store import RunStore
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb


@dataclass(frozen=True, slots=True)
class DrawnBefore:
    """What a draw depends on beside the spec: the day it is for, and what earlier days of its series asked.

    `settled` are the questions of a run that is stored already: it keeps them, whatever its series asked since.
    """

    day: str = ""
    asked: frozenset[str] = frozenset()
    settled: tuple[str, ...] = ()


NOTHING_DRAWN = DrawnBefore()


async def drawn_before(runs: RunStore, spec: pb.RunSpec) -> DrawnBefore:
    """Read what runs of the spec's series with an earlier date asked; the date is today (UTC) where it names none."""
    day = spec.draw.date or datetime.now(UTC).date().isoformat()
    stored = await runs.all(spec.series) if spec.series else []
    drawn = [run.run.manifest for run in stored if run.run.manifest.spec.HasField("draw")]
    earlier = [manifest.question_ids for manifest in drawn if manifest.spec.draw.date < day]
    return DrawnBefore(day, frozenset(identifier for identifiers in earlier for identifier in identifiers))


def chosen_questions(spec: pb.RunSpec, benchmark: Benchmark, drawn: DrawnBefore) -> tuple[str, ...]:
    """Return the ids of the questions that a run asks, sorted: those that it names, or those drawn from them.

    Raises:
        InvalidInputError: an id that the benchmark does not have, or fewer questions left than are to be drawn.

    """
    named = select_questions(benchmark.questions, spec.question_ids, spec.question_limit)
    if not spec.HasField("draw"):
        return named
    if drawn.settled:
        return drawn.settled
    return draw_questions(named, drawn.asked, spec.draw.count, spec.seed, drawn.day)


def series_defects(spec: pb.RunSpec) -> list[Defect]:
    """Return what is wrong with the series of a spec and with its draw."""
    found = []
    if (fault := name_fault(spec.series)) is not None:
        found.append(_defect("series", fault[0], f"expected {fault[1]}"))
    if not spec.HasField("draw"):
        if spec.series_limits:
            found.append(_defect("series.limits", "", "limits are for fresh questions; expected questions.draw too"))
        return found
    if not spec.series:
        found.append(_defect("questions.draw", "", "questions are drawn without replacement; expected a series"))
    if not spec.draw.count:
        found.append(_defect("questions.draw", "0", "expected at least 1"))
    if spec.question_limit:
        found.append(_defect("questions.limit", str(spec.question_limit), "expected draw or limit, not both"))
    if spec.draw.date and not is_day(spec.draw.date):
        found.append(_defect("questions.date", repr(spec.draw.date)[:40], "expected a day such as 2026-12-01"))
    return found + [_limit_defect(name, limit) for name, limit in spec.series_limits.items() if _wrong(name, limit)]


def _wrong(name: str, limit: float) -> bool:
    return name not in HARMS or not 0 < limit < 1


def _limit_defect(name: str, limit: float) -> Defect:
    if name not in HARMS:
        return _defect("series.limits", name, f"expected one of {', '.join(HARMS)}")
    return _defect(f"series.limits.{name}", f"{limit:g}", "expected a share above 0 and below 1")


def _defect(where: str, value: str, expected: str) -> Defect:
    return Defect("run spec", None, None, where, value, expected)


def fill_in_day(spec: pb.RunSpec, drawn: DrawnBefore) -> None:
    """Fill in the day of the draw of a resolved spec."""
    if spec.HasField("draw"):
        spec.draw.date = spec.draw.date or drawn.day

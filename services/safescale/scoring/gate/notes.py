"""What a reader of a verdict must know beside it, a sentence each."""

from collections.abc import Iterable, Iterator

from safescale.core.decisions.policy import Policy
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.gate.policy_text import PolicyText
from safescale.scoring.results import RunMetrics

SHOWN_HASH = 12


def notes_of_run(metrics: RunMetrics, judged_by: PolicyText, policy: Policy) -> Iterator[str]:
    """Say whether the policy was registered before the run, and what was unread."""
    registered = metrics.run.manifest.spec.policy
    if not registered.sha256:
        yield "The policy was not registered before the run: its spec names none."
    elif registered.sha256 != judged_by.sha256:
        name = f"{registered.name} " if registered.name else ""
        yield (
            f"The policy was not registered before the run, which registered {name}"
            f"({registered.sha256[:SHOWN_HASH]}); this one is {judged_by.sha256[:SHOWN_HASH]}."
        )
    elif metrics.cached_count:
        yield (
            f"The policy was registered before the run, but {metrics.cached_count:,} of its "
            f"{metrics.verdict_count:,} verdicts come from answers that were kept from before it."
        )
    yield from _unread(metrics.readings, policy)


def _unread(readings: pb.ReadingCounts, policy: Policy) -> Iterator[str]:
    # Those on which a judge failed are told by their cells.
    unread = readings.unread - readings.judge_failed
    if not unread:
        return
    one = unread == 1
    answers, them = ("answer", "it") if one else (f"{unread:,} answers", "them")
    cut = f", {readings.cut_by_length:,} of them since they were cut by length" if readings.cut_by_length else ""
    as_it_was = "as it was measured" if one else "as they were measured"
    counted = f"counts {them} {'as harm' if policy.unread == 'worst_case' else as_it_was}"
    yield (
        f"{'1 ' * one}{answers} could not be read by anybody{cut}, and the policy {counted}: name a judge in the spec, "
        f"raise max_new_tokens where answers were cut, or read {them} (`safescale reviews list`)."
    )


def notes_of_audit(results: Iterable[pb.RequirementResult], rows: Iterable[pb.MetricRow]) -> Iterator[str]:
    """Say what an audit of the reading makes of the rates that were judged, and where it speaks against passing."""
    corrected = {_place(row): row for row in rows if row.HasField("corrected_value")}
    for result in results:
        row = corrected.get(_place(result))
        if row is None or result.slice:
            continue
        text = (
            f"The audit of its reading corrects {row.metric} of {row.model} under {row.condition} to "
            f"{100 * row.corrected_value:.1f} % ({100 * row.corrected_low:.1f}–{100 * row.corrected_high:.1f}), from "
            f"{100 * row.value:.1f} % as counted"
        )
        over = row.corrected_high > result.limit if result.direction == "max" else row.corrected_low < result.limit
        if result.passed and over:
            text += f": by the corrected interval it would not be shown to meet the limit of {100 * result.limit:g} %"
        yield f"{text}."


def _place(found: pb.RequirementResult | pb.MetricRow) -> tuple[str, str, str, str]:
    return found.model, found.condition, found.regime, found.metric


def notes_of_policy(results: Iterable[pb.RequirementResult]) -> Iterator[str]:
    """Say what passes without evidence: by the estimate alone, or by the end of an interval that speaks for it."""
    estimates = lenient = 0
    for result in results:
        if result.bound == "estimate" and result.model:
            estimates += 1
        elif (result.direction, result.bound) in {("max", "ci_low"), ("min", "ci_high")}:
            lenient += 1
    if estimates:
        yield f"Estimate only: {_count(estimates)} by the number measured, whatever its interval. That is no evidence."
    if lenient:
        yield f"No evidence: {_count(lenient)} by the end of the interval that speaks for passing."


def _count(number: int) -> str:
    return f"{number:,} result{'s are' if number > 1 else ' is'} decided"

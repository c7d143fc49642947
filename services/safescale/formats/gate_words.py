"""What a judgement by a policy says, in words that terminal, JUnit and report share."""

from collections.abc import Sequence

from safescale.core.decisions.policy import Verdict, percent, shown_number
from safescale.rpc.policies import verdict_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

NOTHING = "–"
METHODS = {
    "clopper_pearson": "exact interval",
    "korn_graubard": "exact interval of clusters",
    "bootstrap": "bootstrap interval",
    "tango": "interval of the difference",
    "tango_clusters": "interval of the difference, by clusters",
}
"""How an interval was made, for a reader."""

BASELINE = "baseline"
"""Direction of a requirement against a baseline."""

_END_OF = {True: "high end", False: "low end"}
_ENDS = {"ci_high": "high end", "ci_low": "low end"}


def demand(result: pb.RequirementResult) -> str:
    """Return what is demanded, such as `high_risk_error_rate ≤ 0.05`: the same in each run, for tools that compare."""
    if result.direction == BASELINE:
        return f"{result.metric} worse than baseline by < {result.limit:g}"
    return f"{result.metric} {'≤' if result.direction == 'max' else '≥'} {result.limit:g}"


def demand_shown(result: pb.RequirementResult) -> str:
    """Return what is demanded as a person reads it, such as `high_risk_error_rate ≤ 5 %`."""
    if result.direction == BASELINE:
        return f"{result.metric} worse than baseline by less than {percent(result.limit).removesuffix(' %')} points"
    sign = "≤" if result.direction == "max" else "≥"
    limit = shown_number(result.metric, result.limit) if result.model else f"{result.limit:g}"
    return f"{result.metric} {sign} {limit}"


def place(result: pb.RequirementResult) -> str:
    """Return where it was judged: model, condition, regime, and the value of its slice."""
    part = f"{result.slice} {result.slice_value}".strip()
    return " / ".join(each for each in (result.model, result.condition, result.regime, part) if each)


def number(result: pb.RequirementResult, field: str) -> str:
    """Return a number of a result as a person reads it."""
    if not result.HasField(field):  # type: ignore[arg-type]
        return NOTHING
    value = getattr(result, field)
    if field == "value" and result.HasField("baseline_value"):
        before = shown_number(result.metric, result.baseline_value).removesuffix(" %")
        return f"{before} → {shown_number(result.metric, value)}"
    # What keeps a run from passing any policy is of no model, and a count.
    return shown_number(result.metric, value) if result.model else f"{value:g}"


def interval(result: pb.RequirementResult) -> str:
    """Return the interval, such as `0–10.9 %`."""
    if not (result.HasField("low") and result.HasField("high")):
        return NOTHING
    if result.direction == BASELINE:
        return f"[{100 * result.low:+.1f}, {100 * result.high:+.1f}]".replace("-", "\u2212")
    low, high = shown_number(result.metric, result.low), shown_number(result.metric, result.high)
    unit = low.rpartition(" ")[2]
    return f"{low.removesuffix(f' {unit}')}–{high}"


def decides(result: pb.RequirementResult) -> str:
    """Return which number decided; an estimate is marked, since it is no evidence."""
    if not result.model:
        return "count"
    if result.direction == BASELINE:
        return "difference" if not result.HasField("decisive") else _END_OF[result.decisive == result.high]
    return "estimate only" if result.bound == "estimate" else _ENDS.get(result.bound, result.bound)


def counted(result: pb.RequirementResult) -> str:
    """Return the questions behind a result, the unread among them, and how its interval was made."""
    if not result.n:
        return ""
    parts = [f"{result.n:,} question{'s' if result.n != 1 else ''}"]
    if result.n_unread:
        parts.append(f"{result.n_unread:,} unread")
    if result.interval in METHODS:
        parts.append(METHODS[result.interval])
    return ", ".join(parts)


def summary(response: pb.EvaluatePolicyResponse) -> str:
    """Return the last line of a judgement: the verdict, what of it is missing, and what would decide it."""
    verdicts = [verdict_of(result) for result in response.results]
    total, verdict = len(verdicts), verdict_of(response)
    failed, undecided = verdicts.count(Verdict.FAIL), verdicts.count(Verdict.INSUFFICIENT)
    if verdict is Verdict.PASS:
        return f"PASS: all {total} requirements hold." if total > 1 else "PASS: the requirement holds."
    if verdict is Verdict.FAIL:
        also = f", {undecided} more not decided" if undecided else ""
        return f"FAIL: {failed} of {total} requirements {_verb(failed, 'does', 'do')} not hold{also}."
    said = f"INSUFFICIENT: {undecided} of {total} requirements {_verb(undecided, 'is', 'are')} not decided, none fails."
    return " ".join([said, *_remedies(response.results)])


def _remedies(results: Sequence[pb.RequirementResult]) -> list[str]:
    """Return what would decide what is not decided."""
    undecided = [result for result in results if verdict_of(result) is Verdict.INSUFFICIENT]
    more = max((result.questions_more for result in undecided if result.HasField("questions_more")), default=0)
    bare = [result for result in undecided if not result.HasField("questions_more")]
    unread = [result for result in bare if result.n_unread]
    found = []
    if more:
        some = f"For {len(undecided) - len(bare)} of them about" if bare else "About"
        found.append(f"{some} {more:,} questions more would do, with a power of 80 % if the estimates are true.")
    if unread:
        found.append("Read the unread answers (`safescale reviews list`).")
    # Whether a bootstrap that cannot decide could with more questions is not known; its reason says what is amiss.
    means = [result for result in bare if not result.n_unread and result.interval == "bootstrap"]
    if hopeless := len(bare) - len(unread) - len(means):
        found.append(f"For {hopeless} of them no number of questions would do.")
    if means:
        found.append(f"For {len(means)} of them, decided by a bootstrap, see the reason.")
    return found


def _verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many

"""`safescale plan`: how many questions a decision needs, and what a policy can decide by so many."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from safescale.cli.session import Client
from safescale.cli.terminal.gate_view import plan_lines
from safescale.cli.terminal.text import say, terminal
from safescale.core.decisions.planning import Design, Sample, fewest_questions, pass_power, pivotal_events, plan_policy
from safescale.core.decisions.policy import Limit, percent
from safescale.core.decisions.policy_file import parse_policy
from safescale.core.errors import InvalidInputError
from safescale.core.safety.metrics import METRIC_NAMES, METRICS
from safescale.core.statistics.sample_size import size_for_limit, size_for_margin, zero_error_size
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.policies import plan_message
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.files.reading import parse_yaml, read_source
from safescale.runtime.grpc.channels import rpc_errors

QUICK_S = 60.0
LIMITS = (0.1, 0.05, 0.02, 0.01, 0.001)
SHARES_OF_LIMIT = (0.0, 0.1, 0.25, 0.5, 0.75)
"""True rates that the table shows, as shares of what the limit leaves."""

MAX_QUESTIONS = 1_000_000
NO_VALUE = "(none)"
"""Value of the questions that have none of a slice, as the tables of a run name it."""


def plan(
    max_: Annotated[float | None, typer.Option("--max", help="Limit of a rate that must be at most this.")] = None,
    min_: Annotated[float | None, typer.Option("--min", help="Limit of a rate that must be at least this.")] = None,
    rate: Annotated[float | None, typer.Option(help="True rate to plan for; without it a table of some.")] = None,
    questions: Annotated[int | None, typer.Option(help="Questions: what they can decide.")] = None,
    margin: Annotated[float | None, typer.Option(help="Margin by which a candidate may be worse.")] = None,
    discordance: Annotated[
        float | None, typer.Option(help="With --margin: share of questions that one of the two gets wrong alone.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="With --questions: what this policy can decide by them.")] = None,
    power: Annotated[float, typer.Option(help="Probability of a decision, if the rate is the true one.")] = 0.8,
    confidence: Annotated[float, typer.Option(help="Two-sided confidence of the intervals.")] = 0.95,
) -> None:
    """Say how many questions it takes to decide: for a limit, for a margin against a baseline, or for a policy."""
    terms = Terms(power, confidence)
    for name, value in (("--max", max_), ("--min", min_), ("--rate", rate), ("--margin", margin),
                        ("--discordance", discordance), ("--power", power)):  # fmt: skip
        _check_share(name, value)
    if not 0.5 < confidence < 1:
        raise InvalidInputError(f"--confidence is {confidence:g}; expected a number above 0.5 and below 1")
    if questions is not None and not 1 <= questions <= MAX_QUESTIONS:
        raise InvalidInputError(f"--questions is {questions:,}; expected from 1 to {MAX_QUESTIONS:,}")
    asked = {"--policy": policy, "--margin": margin, "--max": max_, "--min": min_}
    _check_together(asked, {"--rate": rate, "--questions": questions, "--discordance": discordance})
    if policy is not None:
        _by_policy(policy, questions)
    elif margin is not None:
        _by_margin(margin, discordance, terms)
    elif max_ is not None:
        _by_limit(Limit("max", max_), rate, questions, terms)
    elif min_ is not None:
        _by_limit(Limit("min", min_), rate, questions, terms)
    else:
        _overview(terms)


_BESIDE = {"--rate": ("--max", "--min"), "--questions": ("--max", "--min", "--policy"), "--discordance": ("--margin",)}
"""Options that say more of another, and of which."""


def _check_together(asked: Mapping[str, object], beside: Mapping[str, object]) -> None:
    """Raise InvalidInputError for options that answer two questions, or one that would be left out of the answer."""
    given = [name for name, value in asked.items() if value is not None]
    if len(given) > 1:
        raise InvalidInputError(f"{' and '.join(given)} are given together; expected one of them")
    for name, value in beside.items():
        if value is not None and not set(given) & set(_BESIDE[name]):
            raise InvalidInputError(f"{name} says nothing by itself; expected it beside {' or '.join(_BESIDE[name])}")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan is made for: the probability of a decision, and the confidence of the intervals."""

    power: float
    confidence: float


def _check_share(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise InvalidInputError(f"{name} is {value:g}; expected a share from 0 to 1, 5 % is 0.05")


def _by_policy(path: Path, questions: int | None) -> None:
    """Print what a policy can decide by a number of questions."""
    if questions is None:
        raise InvalidInputError("--policy needs --questions, the number that would be asked")
    source = read_source(path)
    policy = parse_policy(parse_yaml(source), source.name, METRIC_NAMES)
    design = Design(Sample(questions), frozenset(metric.name for metric in METRICS if metric.share))
    for line in plan_lines(plan_message(policy, plan_policy(policy, design)), path.name):
        terminal().print(line)


def _by_margin(margin: float, discordance: float | None, terms: Terms) -> None:
    """Print the questions that show a candidate to be no worse by more than a margin."""
    if discordance is None:
        raise InvalidInputError("--margin needs --discordance, the share of questions on which the two differ")
    if not 0 < margin < 1:
        raise InvalidInputError(f"--margin is {margin:g}; expected a share above 0 and below 1")
    _check_power(terms)
    size = size_for_margin(margin, discordance, terms.power, terms.confidence)
    say(
        f"About {size:,} questions show that a candidate is worse by less than {percent(margin).removesuffix(' %')} "
        f"points, if it is as good as the baseline and the two differ on {percent(discordance)} of the questions "
        f"(power {percent(terms.power)}, confidence {percent(terms.confidence)})."
    )


def _by_limit(demand: Limit, rate: float | None, questions: int | None, terms: Terms) -> None:
    """Print the questions that show a rate to be within a limit, and what a given number can show."""
    _check_power(terms)
    fewest = fewest_questions(demand, terms.confidence)
    shown = f"{'at most' if demand.direction == 'max' else 'at least'} {percent(demand.value)}"
    if fewest is None:
        say(f"No number of questions shows that a rate is {shown}.")
        return
    best = "without a single event" if demand.direction == "max" else "with every question right"
    say(
        f"Fewer than {fewest:,} questions cannot show that a rate is {shown}, even {best} "
        f"(confidence {percent(terms.confidence)})."
    )
    rates = _rates(demand) if rate is None else [rate]
    terminal().print(_sizes(demand, rates, questions, terms))


def _rates(demand: Limit) -> list[float]:
    room = demand.value if demand.direction == "max" else 1 - demand.value
    steps = [share * room for share in SHARES_OF_LIMIT]
    return steps if demand.direction == "max" else [1 - step for step in steps]


def _sizes(demand: Limit, rates: Sequence[float], questions: int | None, terms: Terms) -> Table:
    """Return for each true rate the questions needed, and what a given number of them shows."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    least = "at most" if demand.direction == "max" else "at least"
    headings = ["if the rate is", f"questions (power {percent(terms.power)})", f"pass with {least}"]
    if questions is not None:
        headings.append(f"power with {questions:,}")
    for heading in headings:
        table.add_column(heading, justify="right")
    for rate in rates:
        size = size_for_limit(demand.value, rate, demand.direction, terms.power, terms.confidence)
        pivotal = pivotal_events(demand, size, terms.confidence) if size and size <= MAX_QUESTIONS else None
        row = [percent(rate), "no number would do" if size is None else f"{size:,}"]
        row.append("–" if pivotal is None else f"{pivotal:,}")
        if questions is not None:
            row.append(percent(pass_power(demand, questions, rate, terms.confidence)))
        table.add_row(*row)
    return table


def _overview(terms: Terms) -> None:
    """Print the questions needed for usual limits."""
    _check_power(terms)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("at most", "without an event", *(f"rate {share:g} × limit" for share in SHARES_OF_LIMIT[1:4])):
        table.add_column(heading, justify="right")
    for limit in LIMITS:
        sizes = [
            size_for_limit(limit, share * limit, "max", terms.power, terms.confidence) for share in SHARES_OF_LIMIT[1:4]
        ]
        cells = [f"{size:,}" if size is not None else "–" for size in sizes]
        table.add_row(percent(limit), f"{zero_error_size(limit, terms.confidence):,}", *cells)
    say(
        f"Questions that show a rate to be at most a limit (confidence {percent(terms.confidence)}, power "
        f"{percent(terms.power)}). More: --max 0.05, --min 0.9, --margin 0.02 --discordance 0.06, --policy FILE."
    )
    terminal().print(table)


def _check_power(terms: Terms) -> None:
    if not 0 < terms.power < 1:
        raise InvalidInputError(f"--power is {terms.power:g}; expected a probability above 0 and below 1")


async def policy_plan(client: Client, manifest: orchestration_pb2.Manifest, text: str, title: str) -> list[Text]:
    """Return what a policy can decide by the questions of a run that is planned."""
    spec = manifest.spec
    with rpc_errors():
        found = await client.orchestration.GetBenchmark(
            orchestration_pb2.GetBenchmarkRequest(benchmark_id=spec.benchmark_id), timeout=QUICK_S
        )
        asked = set(manifest.question_ids)
        request = plan_request(spec, [each for each in found.questions if each.stem.question_id in asked], text)
        response = await client.scoring.PlanPolicy(request, timeout=QUICK_S)
    return plan_lines(response, title)


def plan_request(
    spec: orchestration_pb2.RunSpec, questions: Sequence[common_pb2.Question], text: str
) -> pb.PlanPolicyRequest:
    """Return the request for what a policy can decide by these questions, and by each slice of them."""
    held = [
        {"subspecialty": each.subspecialty, "question_type": each.question_type, **each.groups} for each in questions
    ]
    names = {name for values in held for name, value in values.items() if value}
    slices: dict[tuple[str, str], list[common_pb2.Question]] = {}
    for question, values in zip(questions, held, strict=True):
        for name in names:
            slices.setdefault((name, values.get(name) or NO_VALUE), []).append(question)
    sizes = [
        pb.SliceSize(slice=name, slice_value=value, question_count=len(part), cluster_count=_voices(part))
        for (name, value), part in sorted(slices.items())
    ]
    regimes = (["greedy"] if spec.greedy else []) + (["majority", "samples"] if spec.samples else [])
    return pb.PlanPolicyRequest(
        policy=text, question_count=len(questions), models=spec.models, conditions=spec.conditions, slices=sizes,
        regimes=regimes, cluster_count=_voices(questions),
    )  # fmt: skip


def _voices(questions: Sequence[common_pb2.Question]) -> int:
    """Return how many clusters of one size the questions are worth, n² / Σ m²; 0 where they are independent."""
    if not any(question.cluster for question in questions):
        return 0
    sizes = Counter(question.cluster or f"\0{question.stem.question_id}" for question in questions)
    return max(1, len(questions) ** 2 // sum(size**2 for size in sizes.values()))

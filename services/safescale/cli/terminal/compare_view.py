"""A comparison for a terminal: a table for each pair of models and regime, and the questions that differ."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from safescale.cli.terminal.live import PAPER_NAMES
from safescale.cli.terminal.text import printable
from safescale.core.safety.benchmark.benchmark import FLAGS, Question
from safescale.core.safety.metrics import METRICS, SAFETY_METRICS
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

NOUNS = {metric.name: metric.noun or metric.name for metric in METRICS}

FLAG_WORDS = {"high_risk": "high-risk", "unsafe": "unsafe", "contradicts": "contradicts the evidence"}

LEAST_P = 0.0001
"""p-values below are shown as below this one."""

TEXT_SHOWN = 160
"""Characters of an answer that the list shows."""


def points(value: float) -> str:
    """Return a difference of shares in percentage points with its sign."""
    return f"{100 * value:+.1f}".replace("-", "\u2212")


def worse_of(row: pb.PairedRow) -> tuple[int, int]:
    """Return the questions in which the candidate is worse, and those in which it is better."""
    harm = row.metric in SAFETY_METRICS
    return (row.only_candidate, row.only_baseline) if harm else (row.only_baseline, row.only_candidate)


def direction_of(row: pb.PairedRow) -> str:
    """Return `worse` or `better` where the interval excludes no difference, else an empty text."""
    if row.low <= 0 <= row.high:
        return ""
    return "worse" if (row.low > 0) == (row.metric in SAFETY_METRICS) else "better"


def _difference(row: pb.PairedRow) -> Text:
    text = Text(points(row.difference), {"worse": "bold red", "better": "green"}.get(direction_of(row), ""))
    text.append(f" [{points(row.low)}, {points(row.high)}]", "dim" if not direction_of(row) else "")
    # The end that speaks against the candidate: a harm may be that much more frequent, accuracy that much lower.
    harm = row.metric in SAFETY_METRICS
    read, end = (row.high, row.worst_high) if harm else (row.low, row.worst_low)
    if points(read) != points(end):
        text.append(f"\nwith the unread {points(end)}", "yellow")
    return text


def _p(value: float) -> str:
    return f"<{LEAST_P:.4f}" if value < LEAST_P else f"{value:.4f}"


def comparison_tables(response: pb.CompareRunsResponse) -> Iterable[Table]:
    """Yield a table for each pair of models and regime."""
    rows = sorted(response.rows, key=_place)
    for (candidate, baseline, regime), found in groupby(rows, key=_place):
        yield _table((candidate, baseline, regime), list(found), response.confidence)


def _place(row: pb.PairedRow) -> tuple[str, str, str]:
    return row.candidate_model, row.baseline_model, row.regime


def _table(place: tuple[str, str, str], rows: Sequence[pb.PairedRow], confidence: float) -> Table:
    candidate, baseline, regime = place
    names = candidate if candidate == baseline else f"{candidate} against {baseline}"
    answers = "greedy answers" if regime == "greedy" else "majority of the samples"
    table = Table(
        title=f"{names}, {answers}",
        title_justify="left",
        caption=(
            f"Per cent of questions; difference in points with its {100 * confidence:g} % interval (Tango). worse, "
            "better: questions. p: exact McNemar test, adjusted by Holm over all rows."
        ),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("condition, metric", overflow="fold")
    for heading in ("cand.", "base.", "difference", "worse", "better", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for condition, found in groupby(rows, key=lambda row: row.condition):
        held = list(found)
        table.add_row(Text(PAPER_NAMES.get(condition, condition), "bold"), "", "", _counted(held))
        for row in held:
            values = [f"{100 * value:.1f}" for value in (row.candidate_value, row.baseline_value)]
            counts = map(str, worse_of(row))
            table.add_row(f" {NOUNS.get(row.metric, row.metric)}", *values, _difference(row), *counts, _p(row.p_holm))
    return table


def _counted(rows: Sequence[pb.PairedRow]) -> Text:
    """Return how many questions were compared under a condition, of how many, and how many nobody could read."""
    row = max(rows, key=lambda each: each.n)
    text = Text(f"{row.n} of {row.n + row.left_out} questions", "yellow" if row.left_out else "dim")
    unread = [max(getattr(each, f"{side}_unread") for each in rows) for side in ("candidate", "baseline")]
    if any(unread):
        text.append(f"\nunread {unread[0]} and {unread[1]}", "yellow")
    return text


def print_flips(
    console: Console, response: pb.CompareRunsResponse, questions: Mapping[str, Question], count: int
) -> None:
    """Print the first flips, what got worse first, each with what both sides answered."""
    if not response.flip_count:
        console.print("No question has another outcome than in the baseline.")
        return
    worse = sum(bool(flip.worse) for flip in response.flips)
    listed = response.flips[:count]
    console.print(
        Text(
            f"{response.flip_count} answers mean something else than in the baseline, {worse} for the worse. "
            f"The first {len(listed)}, what got worse first:",
            "bold",
        )
    )
    several = len({(flip.candidate_model, flip.baseline_model) for flip in response.flips}) > 1
    for flip in listed:
        console.print(_flip(flip, questions.get(flip.question_id), several=several))


def _flip(flip: pb.Flip, question: Question | None, *, several: bool) -> Text:
    where = [PAPER_NAMES.get(flip.condition, flip.condition), flip.regime]
    if several:
        where.insert(0, flip.candidate_model)
    text = Text.assemble((printable(flip.question_id), "bold"), f"  {printable(', '.join(where))}")
    for word, metrics, style in (("worse", flip.worse, "red"), ("better", flip.better, "green")):
        if metrics:
            text.append(f"\n  {word}: {', '.join(NOUNS.get(name, name) for name in metrics)}", style)
    for side in ("candidate", "baseline"):
        text.append(f"\n  {side:<9}  {_answer(flip, side, question)}")
    return text


def _answer(flip: pb.Flip, side: str, question: Question | None) -> str:
    letter = getattr(flip, f"{side}_letter") if flip.HasField(f"{side}_letter") else ""  # type: ignore[arg-type]
    parts = [letter or ("unread" if getattr(flip, f"{side}_unread") else "no answer")]
    if question is not None and letter in question.options:
        parts.append(f"{question.options[letter]} ({meaning(question, letter)})")
    if samples := getattr(flip, f"{side}_samples"):
        parts.append(f"samples {samples}")
    wrote = " ".join(getattr(flip, f"{side}_text").split())
    if wrote and wrote != letter:
        parts.append(f"wrote {wrote[:TEXT_SHOWN]!r}{' …' if len(wrote) > TEXT_SHOWN else ''}")
    return printable("  ".join(parts))


def meaning(question: Question, letter: str) -> str:
    """Return what choosing an option means: correct, or wrong with the labels of the option."""
    if letter == question.correct_answer:
        return "correct"
    labels = question.labels.get(letter)
    if labels is None:
        return "wrong, without safety labels"
    return ", ".join(["wrong", *(FLAG_WORDS[flag] for flag in FLAGS if getattr(labels, flag))])

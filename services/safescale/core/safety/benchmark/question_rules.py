"""What a question must keep to, wherever it comes from: a file, a gRPC message or a REST body.

A fault names the place in the question (`options`, `A`), what was found and what was expected; the reader of a file
adds file and line, the reader of a message the question.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from safescale.core.inputs.records import shown
from safescale.core.inputs.text_rules import MAX_QUESTION_BYTES, name_fault, text_fault
from safescale.core.safety.benchmark.benchmark import FLAGS, LETTERS, MAX_OPTIONS, MIN_OPTIONS, Question

TEXT_FIELDS = ("evidence_clean", "evidence_conflict", "deep_research_report")
SLICE_FIELDS = ("subspecialty", "question_type")
"""Fields that questions are grouped by beside their groups; no group can have the name of one."""

MAX_GROUPS = 20
"""Groups of one question."""

MAX_FAULTS = 20
"""Faults of one question that are listed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a question: the path of the field, what was found, what was expected."""

    path: tuple[str, ...]
    value: str
    expected: str


@dataclass(frozen=True, slots=True)
class Demands:
    """What the question is wanted for: `text`, its text must be there; `labels`, the labels of its options must."""

    text: bool = False
    labels: bool = False


def question_faults(question: Question, demands: Demands) -> list[Fault]:
    """List what is wrong with a question, at most `MAX_FAULTS`; an empty list if nothing is."""
    found: list[Fault] = []
    for fault in _faults(question, demands):
        found.append(fault)
        if len(found) == MAX_FAULTS:
            break
    return found


def _faults(question: Question, demands: Demands) -> Iterator[Fault]:
    yield from stem_faults(question.question_id, question.text, question.options, text_needed=demands.text)
    if question.correct_answer not in question.options:
        yield answer_fault(("correct_answer",), shown(question.correct_answer), question.options)
    for name in (*SLICE_FIELDS, "cluster"):
        yield from name_faults((name,), getattr(question, name))
    yield from group_faults(question.groups)
    for name in TEXT_FIELDS:
        yield from text_faults((name,), getattr(question, name) or "")
    yield from label_faults(question.labels, question.options)
    if demands.labels and not question.labels:
        yield Fault(("labels",), "missing", "the safety labels of every option")


def stem_faults(question_id: str, text: str, options: Mapping[str, str], *, text_needed: bool) -> Iterator[Fault]:
    """Find what is wrong with the part of a question that a model sees."""
    if not question_id.strip():
        yield Fault(("question_id",), shown(question_id), "a non-empty text")
    elif question_id != question_id.strip():
        yield Fault(("question_id",), shown(question_id), "an id without blanks around it")
    yield from name_faults(("question_id",), question_id)
    if text_needed and not text.strip():
        yield Fault(("question_text",), shown(text), "a non-empty text")
    yield from text_faults(("question_text",), text, MAX_QUESTION_BYTES)
    for letter, option in options.items():
        if len(letter) != 1 or letter not in LETTERS:
            yield Fault(("options", letter), shown(letter), "one letter of A to Z as the option's name")
        elif not option.strip():
            yield Fault(("options", letter), shown(option), "a non-empty text")
    yield from option_faults({letter: options[letter] for letter in options if letter in LETTERS and letter})


def option_faults(options: Mapping[str, str]) -> Iterator[Fault]:
    """Find what is wrong with options whose names are single letters: number, gaps, equal texts, characters."""
    letters = "".join(sorted(options))
    if len(options) < MIN_OPTIONS:
        found = f"{len(options)} option{'' if len(options) == 1 else 's'}"
        yield Fault(("options",), found, f"{MIN_OPTIONS} to {MAX_OPTIONS} options")
    elif letters != LETTERS[: len(letters)]:
        expected = f"letters without a gap, {', '.join(LETTERS[: len(letters)])}"
        yield Fault(("options",), ", ".join(letters), expected)
    first: dict[str, str] = {}
    for letter, text in sorted(options.items()):
        yield from text_faults(("options", letter), text, MAX_QUESTION_BYTES)
        same = first.setdefault(" ".join(text.casefold().split()), letter)
        if text.strip() and same != letter:
            yield Fault(("options", letter), shown(text), f"a text other than that of option {same}")


def answer_fault(path: tuple[str, ...], found: str, options: Mapping[str, str]) -> Fault:
    """Make the fault of a correct answer that is no option."""
    letters = ", ".join(sorted(options))
    return Fault(path, found, f"one of the options {letters}" if letters else "the letter of an option")


def label_faults(labelled: Collection[str], options: Mapping[str, str]) -> Iterator[Fault]:
    """Find labels of what is no option, and options without labels where others have some: never filled in part."""
    if not labelled:
        return
    for letter in labelled:
        if letter not in options:
            expected = f"labels for the options {', '.join(sorted(options))} alone"
            yield Fault(("labels", letter), "labels of no option", expected)
    for letter in sorted(set(options) - set(labelled)):
        yield Fault(("labels", letter), "missing", f"{', '.join(FLAGS)} of each option")


def group_faults(groups: Mapping[str, str]) -> Iterator[Fault]:
    """Find what is wrong with the groups of a question: number, names, values."""
    if len(groups) > MAX_GROUPS:
        yield Fault(("groups",), f"{len(groups):,} groups", f"at most {MAX_GROUPS}")
    for name, value in islice(groups.items(), MAX_GROUPS):
        path = ("groups", name)
        if not name.strip() or name != name.strip():
            yield Fault(path, shown(name), "a name without blanks around it")
        elif name in SLICE_FIELDS:
            yield Fault(path, shown(name), f"a name other than {' and '.join(SLICE_FIELDS)}, which are fields")
        elif not value.strip():
            yield Fault(path, shown(value), "a non-empty text")
        yield from name_faults(path, name)
        yield from name_faults(path, value)


def missing_cluster() -> Fault:
    """Make the fault of a question without a cluster among questions that have one."""
    return Fault(("cluster",), "missing", "a cluster of every question, or of none: one of its own where it is alone")


def name_faults(path: tuple[str, ...], text: str) -> Iterator[Fault]:
    """Find what is wrong with the characters or the length of an id or a name."""
    if (found := name_fault(text)) is not None:
        yield Fault(path, *found)


def text_faults(path: tuple[str, ...], text: str, max_bytes: int | None = None) -> Iterator[Fault]:
    """Find what is wrong with the characters or the size of a long text."""
    found = text_fault(text) if max_bytes is None else text_fault(text, max_bytes)
    if found is not None:
        yield Fault(path, *found)

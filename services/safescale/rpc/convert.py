"""Messages to core types and back."""

from collections.abc import Iterable

from safescale.core.errors import InvalidInputError
from safescale.core.safety.benchmark.benchmark import Benchmark, OptionLabels, Question
from safescale.rpc.common.v1 import common_pb2

FORMULATIONS = {"letter": common_pb2.FORMULATION_LETTER, "cloze": common_pb2.FORMULATION_CLOZE}
"""Formulation names of specs and tables, and their enum values."""


def formulation_to_proto(name: str) -> "common_pb2.Formulation.ValueType":
    """Enum value of `letter` or `cloze`.

    Raises:
        InvalidInputError: another name.

    """
    if name not in FORMULATIONS:
        raise InvalidInputError(f"unknown formulation {name!r}; expected letter or cloze")
    return FORMULATIONS[name]


def formulation_from_proto(value: "common_pb2.Formulation.ValueType") -> str:
    """`letter` or `cloze`.

    Raises:
        InvalidInputError: an unspecified or newer value.

    """
    for name, number in FORMULATIONS.items():
        if number == value:
            return name
    raise InvalidInputError(f"formulation {value} is not known here; expected letter or cloze")


def stem_to_proto(question: Question) -> common_pb2.QuestionStem:
    """Return what a model may see of a question."""
    return common_pb2.QuestionStem(
        question_id=question.question_id, question_text=question.text, options=dict(question.options)
    )


def question_to_proto(question: Question) -> common_pb2.Question:
    """Return a question with its truth."""
    return common_pb2.Question(
        stem=stem_to_proto(question),
        correct_answer=question.correct_answer,
        subspecialty=question.subspecialty,
        question_type=question.question_type,
        evidence_clean=question.evidence_clean,
        evidence_conflict=question.evidence_conflict,
        labels={
            letter: common_pb2.OptionLabels(
                high_risk=labels.high_risk, unsafe=labels.unsafe, contradicts=labels.contradicts
            )
            for letter, labels in question.labels.items()
        },
        deep_research_report=question.deep_research_report,
        cluster=question.cluster,
        groups=dict(question.groups),
    )


def question_from_proto(message: common_pb2.Question) -> Question:
    """Return a question with its truth, as it was stored; what a caller brings goes through `rpc.checked`."""
    options = dict(message.stem.options)
    return Question(
        question_id=message.stem.question_id,
        text=message.stem.question_text,
        options=options,
        correct_answer=message.correct_answer,
        subspecialty=message.subspecialty,
        question_type=message.question_type,
        evidence_clean=message.evidence_clean if message.HasField("evidence_clean") else None,
        evidence_conflict=message.evidence_conflict if message.HasField("evidence_conflict") else None,
        labels={
            letter: OptionLabels(labels.high_risk, labels.unsafe, labels.contradicts)
            for letter, labels in message.labels.items()
        },
        deep_research_report=message.deep_research_report if message.HasField("deep_research_report") else None,
        cluster=message.cluster,
        groups=dict(message.groups),
    )


def benchmark_from_proto(name: str, questions: Iterable[common_pb2.Question], validated: bool) -> Benchmark:
    """Return a benchmark as it was stored."""
    return Benchmark(name=name, questions=tuple(map(question_from_proto, questions)), validated=validated)

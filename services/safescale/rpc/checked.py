"""Check what callers send in messages by the rules for files (`core.safety.benchmark.question_rules`)."""

from collections.abc import Iterable, Sequence
from itertools import islice

from safescale.core.errors import Defect, InvalidInputError
from safescale.core.inputs.records import shown
from safescale.core.inputs.text_rules import name_fault
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.core.safety.benchmark.parser import canonical_id, shown_item
from safescale.core.safety.benchmark.question_rules import (
    MAX_FAULTS,
    Demands,
    Fault,
    missing_cluster,
    question_faults,
    stem_faults,
)
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import question_from_proto

TO_RUN = Demands(text=True, labels=True)
"""What a run needs of a question."""

TO_SCORE = Demands()
"""What scoring needs of a question: its text is only read by a judge, and without labels only accuracy is known."""

DEFECTS_AT_MOST = 100


def checked_question(message: common_pb2.Question, demands: Demands, place: str = "question") -> Question:
    """Return a question that a caller brought, held to the rules that files are held to.

    Raises:
        InvalidInputError: it breaks a rule; `defects` lists each with question, field, value and what was expected.

    """
    question = question_from_proto(message)
    if faults := question_faults(question, demands):
        raise input_error(_defects(place, question, faults))
    return question


def checked_questions(messages: Iterable[common_pb2.Question], demands: Demands) -> tuple[Question, ...]:
    """Return the questions that a caller brought: at least one, ids different, labels and clusters for all or for none.

    Raises:
        InvalidInputError: as `checked_question`; the defects of all questions are listed, at most 100.

    """
    questions: list[Question] = []
    defects: list[Defect] = []
    first: dict[str, int] = {}
    for number, message in enumerate(messages):
        question, place = question_from_proto(message), f"questions[{number}]"
        questions.append(question)
        defects += _defects(place, question, question_faults(question, demands))
        before = first.setdefault(canonical_id(question.question_id), number)
        if question.question_id and before != number:
            expected = f"an id of its own, since questions[{before}] has this one"
            defects += _defects(place, question, [Fault(("question_id",), shown(question.question_id), expected)])
    if not questions:
        raise InvalidInputError("questions is empty; expected at least one question")
    if any(question.labels for question in questions):
        for number, question in enumerate(questions):
            if not question.labels and not demands.labels:
                fault = Fault(
                    ("labels",), "missing", "the safety labels of every option, since other questions have them"
                )
                defects += _defects(f"questions[{number}]", question, [fault])
    if any(question.cluster for question in questions):
        for number, question in enumerate(questions):
            if not question.cluster:
                defects += _defects(f"questions[{number}]", question, [missing_cluster()])
    if defects:
        raise input_error(defects)
    return tuple(questions)


def checked_stem(stem: common_pb2.QuestionStem, place: str = "question") -> None:
    """Check what a model may see of a question.

    Raises:
        InvalidInputError: it breaks a rule that files are held to.

    """
    faults = list(islice(stem_faults(stem.question_id, stem.question_text, stem.options, text_needed=True), MAX_FAULTS))
    if faults:
        raise input_error([_defect(place, stem.question_id, fault) for fault in faults])


def checked_name(field: str, value: str, *, needed: bool = True) -> str:
    """Return an id or a name that a caller brought.

    Raises:
        InvalidInputError: it is empty though it is needed, too long, or holds characters that cannot be shown.

    """
    if needed and not value.strip():
        raise InvalidInputError(f"{field} is empty; expected a name")
    if (found := name_fault(value)) is not None:
        raise InvalidInputError(f"{field} is {found[0]}; expected {found[1]}")
    return value


def input_error(defects: Sequence[Defect]) -> InvalidInputError:
    """Return the error that lists the defects of what a caller brought, at most 100."""
    more = f" (and {len(defects) - 1:,} more)" if len(defects) > 1 else ""
    return InvalidInputError(f"{defects[0]}{more}", defects=defects[:DEFECTS_AT_MOST])


def _defects(place: str, question: Question, faults: Iterable[Fault]) -> list[Defect]:
    return [_defect(place, question.question_id, fault) for fault in faults]


def _defect(place: str, question_id: str, fault: Fault) -> Defect:
    return Defect(place, None, shown_item(question_id) or None, ".".join(fault.path), fault.value, fault.expected)


def checked_benchmark(name: str, questions: Iterable[common_pb2.Question], validated: bool) -> Benchmark:
    """Return a benchmark that a caller brought: as for a file that is to be run, with all texts and labels.

    Raises:
        InvalidInputError: as `checked_questions`, or its name cannot be shown.

    """
    checked_name("name", name, needed=False)
    return Benchmark(name=name, questions=checked_questions(questions, TO_RUN), validated=validated)

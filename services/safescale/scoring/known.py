"""Questions that callers bring, parsed once, with what their short answers are: callers score many answers to each."""

from collections import OrderedDict

from google.protobuf.message import DecodeError

from safescale.core.benchmark import Question
from safescale.core.errors import InvalidInputError
from safescale.rpc.checked import TO_SCORE, checked_question
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.scoring.outcomes import outcome_of
from safescale.scoring.reading import read_strictly

CAPACITY_BYTES = 16 * 1024 * 1024
"""Bytes of the questions that are kept."""

KEPT_TEXTS = 64
KEPT_TEXT_LENGTH = 32
"""Answers of each question that are kept, and the characters of the longest: letters with their marks."""


class KnownQuestion:
    """A question, and the scored answers to it."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._scored: dict[tuple[str, str], pb.ScoredAnswer] = {}

    def scored(self, text: str, finish_reason: str = "") -> pb.ScoredAnswer:
        """The text read by the strict parser and scored, without an id; not to be changed."""
        known = self._scored.get((text, finish_reason))
        if known is None:
            reading = read_strictly(text, self.question, finish_reason)
            known = scored_answer("", reading, self.question)
            if len(text) + len(finish_reason) <= KEPT_TEXT_LENGTH and len(self._scored) < KEPT_TEXTS:
                self._scored[text, finish_reason] = known
        return known


def scored_answer(answer_id: str, reading: pb.Reading, question: Question) -> pb.ScoredAnswer:
    """A reading with what its letter means."""
    letter = reading.letter if reading.HasField("letter") else None
    return pb.ScoredAnswer(answer_id=answer_id, reading=reading, outcome=outcome_of(question, letter))


class KnownQuestions:
    """The questions asked last, up to a bound in bytes."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._capacity = capacity_bytes
        self._questions: OrderedDict[bytes, KnownQuestion] = OrderedDict()
        self._bytes = 0

    def of(self, encoded: bytes) -> KnownQuestion:
        """The question of an encoded message.

        Raises:
            InvalidInputError: it is no valid question, or empty.

        """
        return self._questions.get(encoded) or self._new(encoded)

    def _new(self, key: bytes) -> KnownQuestion:
        if not key:
            raise InvalidInputError("question is missing; expected the question with its truth")
        try:
            message = common_pb2.Question.FromString(key)
        except DecodeError as error:
            raise InvalidInputError("question cannot be read; expected an encoded Question") from error
        known = self._questions[key] = KnownQuestion(checked_question(message, TO_SCORE))
        self._bytes += len(key)
        while self._bytes > self._capacity and len(self._questions) > 1:
            dropped, _ = self._questions.popitem(last=False)
            self._bytes -= len(dropped)
        return known

"""Questions that callers bring, parsed once, with what their short answers are: callers score many answers to each."""

from collections.abc import Callable

from google.protobuf.message import DecodeError

from safescale.core.errors import InvalidInputError
from safescale.core.safety.benchmark.benchmark import Question
from safescale.rpc.checked import TO_SCORE, checked_question
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.verdicts import letter_of
from safescale.runtime.memory_cache import MemoryCache, memory_of
from safescale.scoring.kinds.safety_outcomes import outcome_of
from safescale.scoring.kinds.safety_reading import RawAnswer, parsed_reading

CAPACITY_BYTES = 32 * 1024 * 1024
"""Memory of the questions that are kept, with the answers to them."""

CAPACITY = 10_000
"""Questions that are kept."""

QUESTION_BYTES = 600
ENTRY_BYTES = 100
"""What a question, and an entry of a table, take beside what is in them."""

KEPT_TEXTS = 64
KEPT_TEXT_LENGTH = 32
"""Answers of each question that are kept, and the characters of the longest: letters with their marks."""


class CachedQuestion:
    """A question, and the scored answers to it; `grew` is told of the bytes that each answer kept takes.

    Answers are kept encoded: as messages they take ten times the memory.
    """

    def __init__(self, question: Question, grew: Callable[[int], None] = lambda _: None) -> None:
        self.question = question
        self._grew = grew
        self._scored: dict[RawAnswer, bytes] = {}

    def scored(self, answer: RawAnswer) -> pb.ScoredAnswer:
        """Return an answer read by the parser alone and scored, without an id; not to be changed.

        Raises:
            InvalidInputError: there is no reading of that name.

        """
        known = self._scored.get(answer)
        if known is not None:
            return pb.ScoredAnswer.FromString(known)
        reading = parsed_reading(answer, self.question)
        scored = scored_answer("", reading, self.question)
        key = (answer.text, answer.finish_reason, answer.reading)
        if len(answer.text) + len(answer.finish_reason) <= KEPT_TEXT_LENGTH and len(self._scored) < KEPT_TEXTS:
            encoded = self._scored[answer] = scored.SerializeToString()
            self._grew(memory_of((key, encoded)) + ENTRY_BYTES)
        return scored


def scored_answer(answer_id: str, reading: pb.Reading, question: Question) -> pb.ScoredAnswer:
    """Return a reading with what its letter means."""
    outcome = outcome_of(question, letter_of(reading))
    return pb.ScoredAnswer(answer_id=answer_id, reading=reading, outcome=outcome)


class QuestionCache:
    """The questions asked last, up to a bound in number and in memory."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES, capacity: int = CAPACITY) -> None:
        self._kept: MemoryCache[bytes, CachedQuestion] = MemoryCache(capacity, capacity_bytes)

    @property
    def taken_bytes(self) -> int:
        """Memory that is taken."""
        return self._kept.bytes

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, encoded: bytes) -> CachedQuestion:
        """Return the question of an encoded message.

        Raises:
            InvalidInputError: it is no valid question, or empty.

        """
        return self._kept.get(encoded) or self._new(encoded)

    def _new(self, key: bytes) -> CachedQuestion:
        if not key:
            raise InvalidInputError("question is missing; expected the question with its truth")
        try:
            message = common_pb2.Question.FromString(key)
        except DecodeError as error:
            raise InvalidInputError("question cannot be read; expected an encoded Question") from error
        question = checked_question(message, TO_SCORE)
        known = CachedQuestion(question, lambda more: self._kept.grow(key, more))
        self._kept.put(key, known, memory_of((key, question)) + QUESTION_BYTES)
        return known

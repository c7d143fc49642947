"""Reads answers: the parser, by the rules of the reading, then a judge model where one is named (protocol §4)."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import grpc

from safescale.core.errors import DependencyUnavailableError, GarbageAnswerError, NotFoundError, SafescaleError
from safescale.core.safety.answers import judge as rules
from safescale.core.safety.answers.reading import read_letter
from safescale.core.safety.answers.selection import QuestionTexts
from safescale.core.safety.benchmark.benchmark import Question
from safescale.rpc.inference.v1 import inference_pb2, inference_pb2_grpc
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.readings import JUDGE, PARSER, SCORES
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.telemetry import Telemetry

JUDGE_DEADLINE_S = 600.0
JUDGES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What of an answer decides how it is read: what the model wrote, its trace left out, and why that ended.

    `finish_reason` is the word of the server, or empty. `reading` names the rules it is read by; empty for the strict.
    """

    text: str
    finish_reason: str = ""
    reading: str = ""


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """The judge of a run or a caller. Where revision and fingerprint are given, no other model may answer as it.

    `review` is the run's rule of what a person should look at, empty or `paper`. `reasoning` where it is known to write
    a trace before its reply.
    """

    model: str = ""
    revision: str = ""
    fingerprint: str = ""
    review: str = ""
    reasoning: bool = False


def judge_of(manifest: orchestration_pb2.Manifest) -> JudgeModel:
    """Return the judge of a run; runs of version 0.1.0 know its revision alone."""
    spec = manifest.spec
    revision = manifest.judge.revision or manifest.judge_revision
    return JudgeModel(
        spec.judge_model, revision, manifest.judge.fingerprint, spec.review, reasoning=manifest.judge.reasoning
    )


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """A reading, the seconds its judge took (0 without a judge), and why the judge failed (None where it did not).

    `warnings` are what was odd about the judge's answer though it counts.
    """

    reading: pb.Reading
    judge_s: float = 0.0
    error: SafescaleError | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _JudgeReply:
    """Reply of a judge, whether it reasoned first, and what was odd about it."""

    result: rules.JudgeResult
    reasoned: bool = False
    warnings: tuple[str, ...] = ()
    error: SafescaleError | None = None


def parsed_reading(answer: RawAnswer, question: Question) -> pb.Reading:
    """Return what the parser alone reads of an answer. No letter of a text that was cut counts.

    Raises:
        InvalidInputError: there is no reading of that name.

    """
    parsed = read_letter(answer.text, question.options, answer.reading)
    reading = pb.Reading(text=answer.text, parsed_letter=parsed, finish_reason=answer.finish_reason)
    if rules.is_cut(answer.finish_reason):
        reading.review_reason = rules.CUT_BY_LENGTH
    elif parsed is None:
        reading.review_reason = rules.NO_ANSWER
    else:
        reading.letter, reading.read_by = parsed, PARSER
    return reading


def for_judge(reading: pb.Reading) -> bool:
    """Return whether a judge is for this: the parser could not read it, and it is whole (protocol §4.1 and §4.2)."""
    return reading.review_reason == rules.NO_ANSWER and not reading.HasField("parsed_letter")


class AnswerReader:
    """Reads texts; asks the judge model through inference."""

    def __init__(self, inference: Callable[[], grpc.aio.Channel], telemetry: Telemetry) -> None:
        self._inference = inference
        self._telemetry = telemetry
        self._places = asyncio.Semaphore(JUDGES_AT_ONCE)

    async def read(self, answer: RawAnswer, question: Question, judge: JudgeModel) -> ReadAnswer:
        """Read one text. A judge that fails leaves it unread, with the review reason JUDGE_FAILED.

        Raises:
            DependencyUnavailableError: inference cannot be reached, which says nothing about the judge.

        """
        reading = parsed_reading(answer, question)
        if not judge.model or not for_judge(reading):
            return ReadAnswer(reading)
        begin = time.perf_counter()
        reply = await self._judged(answer.text, question, judge)
        result = reply.result
        seconds = time.perf_counter() - begin
        reading.judge.clear_selection = result.clear_selection
        reading.judge.reasoning = result.reasoning
        reading.judge.failure = result.failure
        if result.confirmed_answer is not None:
            reading.judge.confirmed_answer = reading.letter = result.confirmed_answer
        if result.reads:
            reading.read_by = JUDGE
        reading.review_reason = rules.review_reason(None, result, judge.review)
        return ReadAnswer(reading, seconds, reply.error, reply.warnings)

    async def _judged(self, text: str, question: Question, judge: JudgeModel) -> _JudgeReply:
        """Return the reply of the judge, or why there is none. After a useless one it is asked anew."""
        try:
            reply = await self._ask_judge(text, question, judge, fresh=False)
            if not reply.result.readable:
                again = replace(judge, reasoning=judge.reasoning or reply.reasoned)
                reply = await self._ask_judge(text, question, again, fresh=True)
        except DependencyUnavailableError:
            raise
        except SafescaleError as error:
            return _JudgeReply(rules.unusable(f"the judge could not be asked: {error.reason}"), error=error)
        if reply.result.readable:
            return reply
        why = f"the judge {judge.model} replied uselessly, twice: {reply.result.failure}"
        return replace(reply, error=GarbageAnswerError(why))

    async def _ask_judge(self, text: str, question: Question, judge: JudgeModel, *, fresh: bool) -> _JudgeReply:
        messages = rules.judge_messages(question.text, question.options, text)
        request = inference_pb2.GenerateRequest(
            model=judge.model,
            messages=inference_pb2.Messages(system=messages.system, user=messages.user),
            sampling=inference_pb2.Sampling(
                max_new_tokens=rules.REASONING_MAX_NEW_TOKENS if judge.reasoning else rules.MAX_NEW_TOKENS
            ),
            fresh=fresh,
            model_revision=judge.revision,
            model_fingerprint=judge.fingerprint,
        )
        stub = inference_pb2_grpc.InferenceServiceStub(self._inference())
        begin = time.perf_counter()
        outcome = "ok"
        try:
            async with self._places:
                begin = time.perf_counter()
                with self._telemetry.span("judge", {"model": judge.model}), rpc_errors():
                    response = await stub.Generate(request, timeout=JUDGE_DEADLINE_S)
                    # Its catalog has it, then.
                    self._telemetry.know("model", [judge.model])
            result = _result(response, text, question)
            outcome = "ok" if result.readable else rules.JUDGE_FAILED
            reasoned = any(output.reasoning or "<think>" in output.text for output in response.outputs)
            return _JudgeReply(result, reasoned, tuple(response.warnings))
        except SafescaleError as error:
            outcome = error.reason
            raise
        finally:
            # A name that is in no catalog is the caller's invention: it makes no series.
            if outcome != NotFoundError.reason:
                labels = {"model": judge.model, "outcome": outcome}
                self._telemetry.observe("safescale_judge_seconds", time.perf_counter() - begin, labels)


def _result(response: inference_pb2.GenerateResponse, text: str, question: Question) -> rules.JudgeResult:
    output = response.outputs[0] if response.outputs else inference_pb2.Output()
    if rules.is_cut(output.finish_reason):
        return rules.unusable("the reply was cut by its length")
    asked = QuestionTexts(question.options, question.text)
    return rules.parse_judge_output(output.text, text, question.letters, asked)


def cloze_reading(letter: str | None, letters: Mapping[str, str], seed: int | None) -> pb.Reading:
    """Return the reading of an answer drawn from option scores: nothing to parse, no abstention (protocol §4b)."""
    reading = pb.Reading()
    if letter is not None and letter in letters:
        reading.letter, reading.read_by = letter, SCORES
    if seed is not None:
        reading.seed = seed
    return reading

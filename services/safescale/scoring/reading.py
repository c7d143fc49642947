"""Reads answers: the strict parser, then a judge model where one is named (protocol §4)."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc

from safescale.core import judge as rules
from safescale.core.benchmark import Question
from safescale.core.errors import DependencyUnavailableError, SafescaleError
from safescale.core.parsing import parse_letter
from safescale.rpc.inference.v1 import inference_pb2, inference_pb2_grpc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.channels import rpc_errors
from safescale.runtime.telemetry import Telemetry

JUDGE_DEADLINE_S = 600.0
JUDGES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """A reading and the seconds its judge took (0 without a judge)."""

    reading: pb.Reading
    judge_s: float


def read_strictly(text: str, question: Question) -> pb.Reading:
    """Reading of a text by the strict parser alone."""
    parsed = parse_letter(text, question.options)
    reason = rules.review_reason(parsed, None)
    return pb.Reading(text=text, parsed_letter=parsed, letter=rules.final_letter(parsed, None), review_reason=reason)


class AnswerReader:
    """Reads texts; asks the judge model through inference."""

    def __init__(self, inference: Callable[[], grpc.aio.Channel], telemetry: Telemetry) -> None:
        self._inference = inference
        self._telemetry = telemetry
        self._places = asyncio.Semaphore(JUDGES_AT_ONCE)

    async def read(self, text: str, question: Question, judge_model: str) -> ReadAnswer:
        """Read one text. A judge that fails leaves the parser's letter and asks for a hand check.

        Raises:
            DependencyUnavailableError: inference cannot be reached, which says nothing about the judge.

        """
        reading = read_strictly(text, question)
        # The judge is for what the strict parser could not read (protocol §4.1 and §4.2).
        if not judge_model or reading.HasField("parsed_letter"):
            return ReadAnswer(reading, 0.0)
        begin = time.perf_counter()
        result = await self._ask_judge(text, question, judge_model)
        seconds = time.perf_counter() - begin
        reading.judge.clear_selection = result.clear_selection
        reading.judge.reasoning = result.reasoning
        if result.confirmed_answer is not None:
            reading.judge.confirmed_answer = result.confirmed_answer
        letter = rules.final_letter(None, result)
        if letter is not None:
            reading.letter = letter
        reading.review_reason = rules.review_reason(None, result)
        return ReadAnswer(reading, seconds)

    async def _ask_judge(self, text: str, question: Question, judge_model: str) -> rules.JudgeResult:
        messages = rules.judge_messages(question.text, question.options, text)
        request = inference_pb2.GenerateRequest(
            model=judge_model,
            messages=inference_pb2.Messages(system=messages.system, user=messages.user),
            sampling=inference_pb2.Sampling(max_new_tokens=rules.MAX_NEW_TOKENS),
        )
        stub = inference_pb2_grpc.InferenceServiceStub(self._inference())
        begin = time.perf_counter()
        outcome = "ok"
        try:
            async with self._places:
                begin = time.perf_counter()
                with self._telemetry.span("judge", {"model": judge_model}), rpc_errors():
                    response = await stub.Generate(request, timeout=JUDGE_DEADLINE_S)
            reply = response.outputs[0].text if response.outputs else ""
            return rules.parse_judge_output(reply, text, question.letters)
        except DependencyUnavailableError as error:
            outcome = error.reason
            raise
        except SafescaleError as error:
            outcome = error.reason
            return rules.JudgeResult("no", "", None, f"the judge could not be asked: {error.reason}", readable=False)
        finally:
            labels = {"model": judge_model, "outcome": outcome}
            self._telemetry.observe("safescale_judge_seconds", time.perf_counter() - begin, labels)


def cloze_reading(letter: str | None, letters: Mapping[str, str], seed: int | None) -> pb.Reading:
    """Reading of an answer drawn from option scores: nothing to parse, no abstention (protocol §4b)."""
    reading = pb.Reading()
    if letter is not None and letter in letters:
        reading.letter = letter
    if seed is not None:
        reading.seed = seed
    return reading

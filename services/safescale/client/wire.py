"""Requests from what callers give, results from responses; shared by both clients."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from safescale.client.types import (
    Answer,
    Comparison,
    Completeness,
    Evidence,
    Flip,
    Gate,
    Letters,
    Metric,
    PairedRow,
    PlannedRequirement,
    Requirement,
    Scored,
    Series,
)
from safescale.core.errors import InvalidInputError
from safescale.core.safety.benchmark.benchmark import Question
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import formulation_to_proto, question_to_proto
from safescale.rpc.scoring.v1 import scoring_pb2 as pb


def answer_input(answer: Answer, known: dict[int, common_pb2.Question]) -> pb.AnswerInput:
    """Message of an answer; `known` keeps the messages of questions by identity, since answers share them.

    Raises:
        InvalidInputError: a text cannot be sent, since it holds half of a character.

    """
    try:
        question = known.get(id(answer.question))
        if question is None:
            question = known[id(answer.question)] = question_to_proto(answer.question)
        return pb.AnswerInput(
            answer_id=answer.answer_id,
            text=answer.text,
            question=question,
            judge_model=answer.judge_model,
            reading=answer.reading,
            finish_reason=answer.finish_reason,
        )
    except UnicodeEncodeError as error:
        # As a server's text has it that was cut in the middle of an emoji, and JSON gives it.
        broken = f"half of a surrogate pair (U+{ord(error.object[error.start]):04X}) at character {error.start + 1}"
        raise InvalidInputError(
            f"answer {answer.answer_id!a}: {broken} of a text; expected whole characters"
        ) from error


def batch(batch_id: str, answers: Iterable[Answer]) -> pb.ScoreAnswersRequest:
    """Message of a batch of answers."""
    known: dict[int, common_pb2.Question] = {}
    return pb.ScoreAnswersRequest(batch_id=batch_id, answers=[answer_input(each, known) for each in answers])


def scored(message: pb.ScoredAnswer) -> Scored:
    """Return a scored answer."""
    reading, outcome = message.reading, message.outcome
    return Scored(
        message.answer_id,
        reading.letter if reading.HasField("letter") else None,
        reading.parsed_letter if reading.HasField("parsed_letter") else None,
        reading.review_reason,
        outcome.correct,
        outcome.high_risk_error,
        outcome.unsafe_answer,
        outcome.contradiction,
        outcome.abstention,
        message.failure.reason,
        message.failure.message,
        outcome.unlabelled,
        reading.read_by,
    )


def metrics_request(
    questions: Sequence[Question], cells: Iterable[Letters], formulation: str
) -> pb.ComputeMetricsRequest:
    """Request for the metrics of letters.

    Raises:
        InvalidInputError: the formulation does not exist.

    """
    return pb.ComputeMetricsRequest(
        questions=[question_to_proto(question) for question in questions],
        cells=[_cell(cell) for cell in cells],
        formulation=formulation_to_proto(formulation),
    )


def _cell(cell: Letters) -> pb.CellLetters:
    message = pb.CellLetters(
        model=cell.model,
        condition=cell.condition,
        question_id=cell.question_id,
        samples=[letter or "" for letter in cell.samples],
        latency_s=cell.latency_s,
        greedy_unread=cell.greedy_unread,
        unread_samples=cell.unread_samples,
    )
    if cell.greedy:
        message.greedy = cell.greedy
    return message


def _or_none(message: Any, field: str) -> float | None:
    return float(getattr(message, field)) if message.HasField(field) else None


def metrics(rows: Iterable[pb.MetricRow]) -> list[Metric]:
    """Metric rows."""
    return [
        Metric(
            row.model,
            row.condition,
            row.regime,
            row.metric,
            _or_none(row, "value"),
            _or_none(row, "ci_low"),
            _or_none(row, "ci_high"),
            row.n,
            row.n_null,
            row.n_unread,
            row.interval,
            _or_none(row, "exact_low"),
            _or_none(row, "exact_high"),
            _or_none(row, "worst_high"),
            row.slice,
            row.slice_value,
            _or_none(row, "corrected_value"),
            _or_none(row, "corrected_low"),
            _or_none(row, "corrected_high"),
        )
        for row in rows
    ]


def completeness(response: pb.GetRunMetricsResponse) -> Completeness:
    """How much of a run there is."""
    return Completeness(
        response.complete,
        tuple(response.missing),
        response.planned_count,
        response.verdict_count,
        response.skipped_count,
        response.failed_count,
        response.cached_count,
    )


def series(response: pb.GetSeriesResponse) -> Series:
    """Return the evidence of a series."""
    shared = [field.name for field in fields(Evidence) if field.name != "limit"]
    return Series(
        response.series,
        response.reference_run_id,
        tuple(
            Evidence(**{name: getattr(each, name) for name in shared}, limit=_or_none(each, "limit"))
            for each in response.points
        ),
        response.alpha,
        any(each.alarm for each in response.points if not each.metric),
        tuple(response.notes),
    )


def comparison(response: pb.CompareRunsResponse) -> Comparison:
    """Return a comparison."""
    return Comparison(
        response.candidate_run_id,
        response.baseline_run_id,
        tuple(
            PairedRow(
                **{name: getattr(row, name) for name in _SAME},
                worst=(row.worst_low, row.worst_high),
            )
            for row in response.rows
        ),
        tuple(
            Flip(
                flip.question_id,
                flip.candidate_model,
                flip.condition,
                flip.regime,
                tuple(flip.worse),
                tuple(flip.better),
                flip.candidate_letter if flip.HasField("candidate_letter") else None,
                flip.baseline_letter if flip.HasField("baseline_letter") else None,
            )
            for flip in response.flips
        ),
        tuple(response.notes),
    )


_SAME = tuple(each.name for each in fields(PairedRow) if each.name != "worst")
"""Fields that a row has in the message, too."""


def gate(response: pb.EvaluatePolicyResponse) -> Gate:
    """Return the judgement of a policy."""
    # An answer that judges nothing is no judgement, whatever it says.
    verdict = _verdict(response) if response.results else "fail"
    return Gate(
        verdict == "pass",
        tuple(_requirement(each) for each in response.results),
        verdict,
        response.confidence or 0.95,
        response.policy_sha256,
        response.registered_sha256,
        tuple(response.notes),
    )


def _verdict(message: pb.EvaluatePolicyResponse | pb.RequirementResult) -> str:
    """Return the verdict in a word; a service that knew two only says whether it passed."""
    if message.passed:
        return "pass"
    return "insufficient" if message.verdict == pb.POLICY_VERDICT_INSUFFICIENT else "fail"


def _requirement(result: pb.RequirementResult) -> Requirement:
    verdict = _verdict(result)
    return Requirement(
        result.metric,
        result.model,
        result.condition,
        result.regime,
        result.limit,
        _or_none(result, "decisive"),
        verdict == "pass",
        result.reason,
        verdict,
        result.slice,
        result.slice_value,
        _or_none(result, "low"),
        _or_none(result, "high"),
        result.interval,
        result.n,
        result.n_unread,
        result.questions_more if result.HasField("questions_more") else None,
    )


def planned(response: pb.PlanPolicyResponse) -> list[PlannedRequirement]:
    """Return what a policy can decide."""
    return [
        PlannedRequirement(
            each.metric,
            each.model,
            each.condition,
            each.regime,
            each.limit,
            each.slice,
            each.slice_value,
            each.n,
            each.pivotal_events if each.HasField("pivotal_events") else None,
            each.needed,
            each.decidable,
            each.sentence,
        )
        for each in response.requirements
    ]

"""gRPC face of scoring."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from safescale.core.errors import InvalidInputError, LimitExceededError, NotFoundError, SafescaleError
from safescale.core.safety.cells import Cell, record_key
from safescale.core.safety.tables.size import check_size
from safescale.rpc.checked import TO_SCORE, checked_name, checked_questions
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2_grpc
from safescale.rpc.tables import chunks_of
from safescale.runtime.auth.caller import require
from safescale.runtime.errors import to_failure
from safescale.scoring.clients import GroundTruthCache
from safescale.scoring.compare import compare_runs
from safescale.scoring.encoded_batches import EncodedAnswer, EncodedBatch
from safescale.scoring.gate.calls import PolicyCalls
from safescale.scoring.kinds.safety_metrics import metrics_of_letters
from safescale.scoring.kinds.safety_reading import AnswerReader, JudgeModel, RawAnswer, for_judge
from safescale.scoring.question_cache import QuestionCache, scored_answer
from safescale.scoring.records import KEY_FIELDS, ReviewStore, VerdictStore, cell_of
from safescale.scoring.results import RunMeasurements
from safescale.scoring.reviews.audit import Audits
from safescale.scoring.series.evidence import SeriesReader
from safescale.scoring.settled import AUDIT
from safescale.scoring.store_metrics import Judgements

Context = grpc.aio.ServicerContext[Any, Any]

MAX_BATCH = 1000
MAX_CELLS = 200_000
MAX_QUESTIONS = 20_000
MAX_SAMPLES = 1000
MAX_PAGE = 1000

JUDGED = "judge_model, which asks a model,"
"""What needs the role of those who may ask models."""

DEFAULT_PAGE = 100
MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Bytes of a page, whatever the number asked for: texts of models can be long, and a message has a limit."""


def _page_size(asked: int) -> int:
    if asked > MAX_PAGE:
        raise LimitExceededError(f"page_size {asked} is over the limit of {MAX_PAGE}")
    return asked or DEFAULT_PAGE


def _check_dimensions(request: pb.ComputeMetricsRequest) -> None:
    """Refuse letters whose metrics would take too much, before any of them is read."""
    if len(request.questions) > MAX_QUESTIONS:
        raise LimitExceededError(f"{len(request.questions):,} questions are over the limit of {MAX_QUESTIONS:,}")
    samples = max(len(cell.samples) for cell in request.cells)
    if samples > MAX_SAMPLES:
        raise LimitExceededError(f"a cell has {samples:,} samples; the limit is {MAX_SAMPLES:,}")
    names = (
        {cell.model for cell in request.cells}, {cell.condition for cell in request.cells},
        {cell.question_id for cell in request.cells},
    )  # fmt: skip
    check_size(len(names[0]), len(names[1]), len(names[2]), samples)


def _needed(value: str, field: str) -> str:
    if not value:
        raise InvalidInputError(f"{field} is empty; expected an identifier")
    return value


class ScoringServicer(scoring_pb2_grpc.ScoringServiceServicer):
    """Checks requests and hands them on."""

    def __init__(
        self, reader: AnswerReader, stores: tuple[VerdictStore, ReviewStore], truths: GroundTruthCache,
        results: RunMeasurements, judgements: Judgements, series: SeriesReader,
    ) -> None:  # fmt: skip
        self._reader = reader
        self._verdicts, self._reviews = stores
        self._truths = truths
        self._results = results
        self._audits = Audits(*stores)
        self._series = series
        self._policies = PolicyCalls(truths, results, judgements)
        self._questions = QuestionCache()

    async def _score(self, answer: pb.AnswerInput | EncodedAnswer, encoded: bytes) -> pb.ScoredAnswer:
        question = self._questions.of(encoded).question
        raw = RawAnswer(answer.text, answer.finish_reason, answer.reading)
        read = await self._reader.read(raw, question, JudgeModel(answer.judge_model))
        if isinstance(read.error, NotFoundError):
            # A judge that is in no catalog is the caller's mistake; one that failed is an outcome.
            raise read.error
        return scored_answer(answer.answer_id, read.reading, question)

    async def _score_batch(self, batch: EncodedBatch) -> pb.ScoreAnswersResponse:
        """Score a batch: what needs no judge at once, the others together."""
        response = pb.ScoreAnswersResponse(batch_id=batch.batch_id)
        scored = response.scored
        question = self._questions.of
        judged: list[int] = []
        for index, answer in enumerate(batch.answers):
            place = scored.add()
            try:
                raw = RawAnswer(answer.text, answer.finish_reason, answer.reading)
                known = question(answer.question).scored(raw)
            except SafescaleError as error:
                place.failure.CopyFrom(to_failure(error))
            else:
                place.CopyFrom(known)
                if answer.judge_model and for_judge(known.reading):
                    judged.append(index)
            place.answer_id = answer.answer_id
        if judged:
            read = await asyncio.gather(*(self._score_or_fail(batch.answers[index]) for index in judged))
            for index, one in zip(judged, read, strict=True):
                scored[index].CopyFrom(one)
        return response

    async def _score_or_fail(self, answer: EncodedAnswer) -> pb.ScoredAnswer:
        try:
            return await self._score(answer, answer.question)
        except SafescaleError as error:
            return pb.ScoredAnswer(answer_id=answer.answer_id, failure=to_failure(error))

    async def ScoreAnswer(self, request: pb.ScoreAnswerRequest, context: Context) -> pb.ScoreAnswerResponse:
        """Read and score one answer."""
        if request.answer.judge_model:
            require("runner", JUDGED)
        return pb.ScoreAnswerResponse(
            scored=await self._score(request.answer, request.answer.question.SerializeToString())
        )

    async def ScoreAnswers(  # type: ignore[override]
        self, request_iterator: AsyncIterator[EncodedBatch], context: Context
    ) -> AsyncIterator[pb.ScoreAnswersResponse]:
        """Score batches in their order; the next is read when the last is sent, so a slow caller is not flooded.

        Questions are unread: the method has a handler of its own.
        """
        async for batch in request_iterator:
            checked_name("batch_id", batch.batch_id, needed=False)
            if len(batch.answers) > MAX_BATCH:
                raise LimitExceededError(
                    f"batch {batch.batch_id!r} has {len(batch.answers)} answers; the limit is {MAX_BATCH}"
                )
            if any(answer.judge_model for answer in batch.answers):
                require("runner", JUDGED)
            yield await self._score_batch(batch)

    async def ComputeMetrics(self, request: pb.ComputeMetricsRequest, context: Context) -> pb.ComputeMetricsResponse:
        """Compute every metric from letters and labels."""
        if len(request.cells) > MAX_CELLS:
            raise LimitExceededError(f"{len(request.cells)} cells are over the limit of {MAX_CELLS}")
        if not request.cells:
            raise InvalidInputError("cells is empty; expected at least one")
        formulation = formulation_from_proto(request.formulation)
        await asyncio.to_thread(_check_dimensions, request)
        questions = await asyncio.to_thread(checked_questions, request.questions, TO_SCORE)
        found = await self._results.measured(
            metrics_of_letters, questions, list(request.cells), formulation, list(request.slices)
        )
        return pb.ComputeMetricsResponse(rows=found.rows, slice_rows=found.slice_rows)

    async def GetRunMetrics(self, request: pb.GetRunMetricsRequest, context: Context) -> pb.GetRunMetricsResponse:
        """Compute every metric of a run."""
        return (await self._results.metrics(_needed(request.run_id, "run_id"), request.slices)).message()

    async def GetRunTables(
        self, request: pb.GetRunTablesRequest, context: Context
    ) -> AsyncIterator[pb.GetRunTablesResponse]:
        """Stream the tables of a run."""
        for table in await self._results.tables(_needed(request.run_id, "run_id"), request.tables):
            for chunk in chunks_of(table):
                yield chunk

    async def EvaluatePolicy(self, request: pb.EvaluatePolicyRequest, context: Context) -> pb.EvaluatePolicyResponse:
        """Judge a run, or rows that the caller brings, by a policy."""
        return await self._policies.evaluate(request)

    async def PlanPolicy(self, request: pb.PlanPolicyRequest, context: Context) -> pb.PlanPolicyResponse:
        """Say which requirements of a policy can be decided by a number of questions."""
        return await self._policies.plan(request)

    async def CompareRuns(self, request: pb.CompareRunsRequest, context: Context) -> pb.CompareRunsResponse:
        """Compare a run with a baseline."""
        return await compare_runs(self._results, request)

    async def ListVerdicts(self, request: pb.ListVerdictsRequest, context: Context) -> pb.ListVerdictsResponse:
        """List verdicts page by page."""
        run_id = await self._truths.run_id_of(_needed(request.run_id, "run_id"))
        size = _page_size(request.page_size)
        # A token is the key of a cell; its attempts sort behind it, hence the last character.
        after = f"{request.page_token}/\U0010ffff" if request.page_token else ""
        failed = (
            {cell_of(one.cell) async for one in self._results.keys(run_id) if one.HasField("failure")}
            if request.failed_only
            else None
        )
        found: list[str] = []
        last = ""
        async for cell_key, document in self._verdicts.newest(run_id, after, KEY_FIELDS):
            body = document.body
            if request.model not in ("", body["model"]) or request.condition not in ("", body["condition"]):
                continue
            cell = Cell(run_id, body["model"], body["condition"], body["question_id"])
            if failed is not None and cell not in failed:
                continue
            if len(found) == size:
                return await self._page(run_id, found, last)
            found.append(document.key)
            last = cell_key
        return await self._page(run_id, found, "")

    async def _page(self, run_id: str, keys: Sequence[str], token: str) -> pb.ListVerdictsResponse:
        """Return verdicts with the token behind them, or as many of them as a message should hold with theirs."""
        page = pb.ListVerdictsResponse(next_page_token=token)
        size = 0
        for begin in range(0, len(keys), DEFAULT_PAGE):
            for verdict in await self._results.read(run_id, keys[begin : begin + DEFAULT_PAGE]):
                size += verdict.ByteSize()
                if page.verdicts and size > MAX_PAGE_BYTES:
                    last = page.verdicts[-1]
                    page.next_page_token = record_key(cell_of(last.cell), last.attempt).rpartition("/")[0]
                    return page
                page.verdicts.append(verdict)
        return page

    async def ExportVerdicts(
        self, request: pb.ExportVerdictsRequest, context: Context
    ) -> AsyncIterator[pb.ExportVerdictsResponse]:
        """Stream all verdicts of a run; unknown runs have none."""
        run_id = _needed(request.run_id, "run_id")
        if request.keys_only:
            async for keys in self._results.keys(run_id):
                yield pb.ExportVerdictsResponse(verdict=keys)
            return
        async for verdict in self._results.verdicts(await self._truths.run_id_of(run_id)):
            yield pb.ExportVerdictsResponse(verdict=verdict)

    async def GetSeries(self, request: pb.GetSeriesRequest, context: Context) -> pb.GetSeriesResponse:
        """Gather the evidence of a series."""
        return await self._series.read(_needed(request.series, "series"))

    async def StartAudit(self, request: pb.StartAuditRequest, context: Context) -> pb.StartAuditResponse:
        """Draw answers of a run for people to read."""
        return await self._audits.start(await self._truths.run_of(_needed(request.run_id, "run_id")), request)

    async def GetAudit(self, request: pb.GetAuditRequest, context: Context) -> pb.GetAuditResponse:
        """Return the audit of a run."""
        run_id = await self._truths.run_id_of(_needed(request.run_id, "run_id"))
        return pb.GetAuditResponse(audit=await self._audits.get(run_id))

    async def ListReviews(self, request: pb.ListReviewsRequest, context: Context) -> pb.ListReviewsResponse:
        """List reviews page by page."""
        run_id = await self._truths.run_id_of(request.run_id) if request.run_id else ""
        size = _page_size(request.page_size)
        found: list[pb.Review] = []
        held = 0
        async for review in self._reviews.scan(run_id, request.page_token):
            if review.resolved and not request.include_resolved:
                continue
            held += review.ByteSize()
            if len(found) == size or (found and held > MAX_PAGE_BYTES):
                return pb.ListReviewsResponse(reviews=found, next_page_token=found[-1].review_id)
            found.append(review)
        return pb.ListReviewsResponse(reviews=found)

    async def ResolveReview(self, request: pb.ResolveReviewRequest, context: Context) -> pb.ResolveReviewResponse:
        """Settle a review."""
        _needed(request.review_id, "review_id")
        checked_name("reviewer", request.reviewer)
        if request.HasField("letter"):
            await self._check_letter(request)
        return pb.ResolveReviewResponse(review=await self._reviews.resolve(request, await self._hidden(request)))

    async def _hidden(self, request: pb.ResolveReviewRequest) -> pb.Reading | None:
        """Return what the machine read of an answer that an audit drew, and that the review did not tell until now."""
        review = await self._reviews.get(request.review_id)
        if review.reason != AUDIT:
            return None
        verdict = await self._verdicts.get(cell_of(review.cell), review.attempt)
        return None if verdict is None else verdict.greedy

    async def _check_letter(self, request: pb.ResolveReviewRequest) -> None:
        cell = (await self._reviews.get(request.review_id)).cell
        letters = (await self._truths.of_run(cell.run_id)).questions[cell.question_id].letters
        if request.letter not in letters:
            expected = ", ".join(letters)
            raise InvalidInputError(
                f"letter {request.letter!r} is not an option of {cell.question_id}; expected one of {expected}"
            )

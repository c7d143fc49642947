"""Turn generations into verdicts."""

from dataclasses import dataclass

from safescale.core.safety.answers.judge import JUDGE_FAILED
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.bus import topics
from safescale.runtime.bus.limits import fits
from safescale.runtime.bus.port import Bus, Message, Subscription, SubscriptionOptions
from safescale.runtime.log import get_logger, log_context
from safescale.runtime.telemetry import Telemetry
from safescale.scoring.clients import GroundTruthCache
from safescale.scoring.kinds.port import Kinds, kind_of
from safescale.scoring.records import ReviewStore, VerdictStore, cell_of, review_id, set_machine
from safescale.scoring.results import RunMeasurements

GROUP = "scoring"
IN_FLIGHT = 64
"""Cells at once: their reads and writes of the store are batched."""


@dataclass(frozen=True)
class ScoringPorts:
    """Dependencies of the worker."""

    bus: Bus
    truths: GroundTruthCache
    kinds: Kinds
    results: RunMeasurements
    verdicts: VerdictStore
    reviews: ReviewStore
    telemetry: Telemetry


class ScoringWorker:
    """Consumes generations, stores verdicts, announces them."""

    def __init__(self, ports: ScoringPorts) -> None:
        self._ports = ports
        self._subscription: Subscription | None = None
        self._log = get_logger("scoring")

    async def start(self) -> None:
        """Start consuming."""
        options = SubscriptionOptions(max_in_flight=IN_FLIGHT)
        self._subscription = await self._ports.bus.subscribe(topics.GENERATION_COMPLETED, GROUP, self._handle, options)

    async def stop(self) -> None:
        """Finish what is in flight."""
        if self._subscription is not None:
            await self._subscription.stop()

    async def _handle(self, message: Message) -> None:
        generation = events_pb2.GenerationCompleted.FromString(message.value)
        key = generation.cell
        with log_context(run_id=key.run_id, model=key.model, condition=key.condition, question_id=key.question_id):
            truth = await self._ports.truths.of_run(key.run_id)
            # Look up what a judge would have to read again. The parser alone is faster than a lookup.
            judged = bool(truth.manifest.spec.judge_model)
            verdict = await self._stored(generation) if judged else None
            if verdict is None:
                kind = kind_of(self._ports.kinds, truth.manifest)
                verdict = await self._recorded(await kind.outcome(generation, truth))
            if verdict.failure.reason == JUDGE_FAILED:
                self._ports.results.settle(verdict, await self._ports.reviews.of_verdicts([verdict]), truth)
            await self._announce(verdict, message)

    async def _stored(self, one: events_pb2.GenerationCompleted | pb.Verdict) -> pb.Verdict | None:
        return await self._ports.verdicts.get(cell_of(one.cell), one.attempt)

    async def _recorded(self, verdict: pb.Verdict) -> pb.Verdict:
        """Store a verdict with its reviews; return the stored one, which is the first of its attempt."""
        reviews = reviews_of(verdict)
        if verdict.attempt > 1:
            # A reading by a person is kept, whatever a judge says now.
            carried = {review.review_id: review for review in await self._ports.reviews.carried_over(verdict)}
            reviews = [*carried.values(), *(review for review in reviews if review.review_id not in carried)]
        # Reviews first: after a crash in between, the next delivery adds the verdict.
        await self._ports.reviews.open(reviews)
        added = await self._ports.verdicts.put(verdict)
        if verdict.attempt > 1:
            await self._ports.reviews.close_earlier(verdict)
        if added:
            self._observe(verdict)
            return verdict
        return await self._stored(verdict) or verdict

    async def _announce(self, verdict: pb.Verdict, message: Message) -> None:
        event = _announcement(events_pb2.VerdictRecorded(verdict=verdict), message)
        if not fits(event):
            short = events_pb2.VerdictRecorded(verdict=without_texts(verdict), texts_left_out=True)
            event = _announcement(short, message)
        await self._ports.bus.publish(event)

    def _observe(self, verdict: pb.Verdict) -> None:
        labels = {"model": verdict.cell.model, "condition": verdict.cell.condition, "outcome": outcome_name(verdict)}
        self._ports.telemetry.count("safescale_verdicts_total", 1, labels)


def _announcement(event: events_pb2.VerdictRecorded, message: Message) -> Message:
    headers = {**message.headers, "message-type": event.DESCRIPTOR.full_name}
    key = cell_of(event.verdict.cell).cell_id
    return Message(topics.VERDICT_RECORDED, key, event.SerializeToString(), headers)


def without_texts(verdict: pb.Verdict) -> pb.Verdict:
    """Return a verdict without the texts of models, but with its letters, outcomes and reasons."""
    short = pb.Verdict()
    short.CopyFrom(verdict)
    for reading in (short.greedy, *short.samples) if short.HasField("greedy") else short.samples:
        reading.text = ""
        if reading.HasField("judge"):
            reading.judge.reasoning = ""
    return short


def outcome_name(verdict: pb.Verdict) -> str:
    """Return the outcome of a verdict as a metric label; harm that was read takes precedence over failures."""
    outcome = verdict.greedy_outcome if verdict.greedy_asked else verdict.majority_outcome
    deciding = [verdict.greedy] if verdict.greedy_asked else verdict.samples
    if outcome.high_risk_error:
        return "high_risk"
    if outcome.unsafe_answer:
        return "unsafe"
    if verdict.HasField("failure"):
        return "judge_failed" if verdict.failure.reason == JUDGE_FAILED else "failed"
    if outcome.abstention:
        return "unread" if any(not reading.read_by for reading in deciding) else "abstention"
    return "correct" if outcome.correct else "wrong"


def reviews_of(verdict: pb.Verdict) -> list[pb.Review]:
    """Return the reviews that a verdict opens: one for each answer with a reason for review."""
    places: list[tuple[int | None, pb.Reading]] = []
    if verdict.HasField("greedy"):
        places.append((None, verdict.greedy))
    places.extend(enumerate(verdict.samples))
    found = []
    for index, reading in places:
        if not reading.review_reason:
            continue
        review = pb.Review(
            review_id=review_id(cell_of(verdict.cell), verdict.attempt, index),
            cell=verdict.cell,
            reason=reading.review_reason,
            text=reading.text,
            attempt=verdict.attempt,
        )
        if index is not None:
            review.sample_index = index
        set_machine(review, reading)
        found.append(review)
    return found

"""The scoring service over gRPC and the memory bus, its peers scripted."""

import asyncio
import json

import pytest

from safescale.core.errors import (
    FailedPreconditionError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    SpecError,
)
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import question_to_proto
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.bus import topics
from safescale.runtime.bus.limits import MESSAGE_LIMIT
from safescale.runtime.bus.port import Message, SubscriptionOptions
from safescale.runtime.grpc.channels import responses, rpc_errors

JUDGE_B = json.dumps({"clear_selection": "yes", "reasoning": "states B", "confirmed_answer": "B"})


async def complete(world, seen, generation: events_pb2.GenerationCompleted) -> pb.Verdict:
    before = len(seen)
    await world.bus.publish(Message(topics.GENERATION_COMPLETED, "k", generation.SerializeToString(), {"run-id": "r"}))
    async with asyncio.timeout(10):
        while len(seen) == before:
            await asyncio.sleep(0.005)
    return seen[-1]


def letter_cell(key, greedy: str, samples: list[str], attempt: int = 1) -> events_pb2.GenerationCompleted:
    return events_pb2.GenerationCompleted(
        cell=key,
        formulation=common_pb2.FORMULATION_LETTER,
        greedy=events_pb2.Answer(text=greedy),
        samples=[events_pb2.Answer(text=text, seed=i) for i, text in enumerate(samples)],
        timings=common_pb2.Timings(greedy_s=0.5),
        attempt=attempt,
        greedy_asked=True,
        samples_asked=len(samples),
    )


async def test_a_cell_becomes_a_verdict(world, verdicts, cell_key) -> None:
    verdict = await complete(world, verdicts, letter_cell(cell_key(), "A", ["C", "C", "B", "no idea"]))
    assert verdict.greedy.letter == "A"
    assert verdict.greedy_outcome.contradiction
    assert not verdict.greedy_outcome.high_risk_error
    assert verdict.majority_letter == "C"
    assert verdict.majority_outcome.high_risk_error
    assert [reading.seed for reading in verdict.samples] == [0, 1, 2, 3]
    assert verdict.samples[3].review_reason == "NO_ANSWER"


async def test_what_was_odd_about_the_answers_goes_with_them(world, verdicts, cell_key) -> None:
    generation = letter_cell(cell_key(), "A", [])
    generation.warnings.append("PROMPT_MAYBE_CUT")
    assert list((await complete(world, verdicts, generation)).warnings) == ["PROMPT_MAYBE_CUT"]


async def test_a_verdict_too_large_for_the_bus_is_announced_without_its_texts_and_kept_whole(
    world, stub, cell_key
) -> None:
    events: list[events_pb2.VerdictRecorded] = []

    async def handle(message: Message) -> None:
        events.append(events_pb2.VerdictRecorded.FromString(message.value))

    await world.bus.subscribe(topics.VERDICT_RECORDED, "test", handle, SubscriptionOptions())
    generation = letter_cell(cell_key(), "", ["B"] * 100)
    generation.usage.prompt_tokens = 7
    # It just fits as answers, and no more once each has its letter.
    generation.greedy.text += "x" * (MESSAGE_LIMIT - 200 - generation.ByteSize())
    text = generation.greedy.text
    for _ in range(2):
        await complete(world, events, generation)
    for event in events:
        assert event.texts_left_out
        assert {reading.text for reading in (event.verdict.greedy, *event.verdict.samples)} == {""}
        assert (event.verdict.greedy.review_reason, event.verdict.majority_letter) == ("NO_ANSWER", "B")
        assert (len(event.verdict.samples), event.verdict.usage.prompt_tokens) == (100, 7)
    stored = await stub.ListVerdicts(pb.ListVerdictsRequest(run_id="run-1"))
    assert [verdict.greedy.text for verdict in stored.verdicts] == [text]
    await complete(world, events, letter_cell(cell_key("q1"), "B", []))
    assert (events[-1].texts_left_out, events[-1].verdict.greedy.text) == (False, "B")


async def test_pages_are_bounded_in_bytes_too(world, stub, verdicts, cell_key) -> None:
    for name in ("q0", "q1"):
        for attempt in (1, 2):
            await complete(world, verdicts, letter_cell(cell_key(name), f"{attempt}" * 900_000, [], attempt))
    pages, reviews = [], []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("safescale.scoring.servicer.MAX_PAGE_BYTES", 1_000_000)
        token = ""
        while not pages or token:
            page = await stub.ListVerdicts(pb.ListVerdictsRequest(run_id="run-1", page_token=token))
            pages.append([(verdict.cell.question_id, verdict.attempt) for verdict in page.verdicts])
            token = page.next_page_token
        while not reviews or token:
            listed = await stub.ListReviews(pb.ListReviewsRequest(run_id="run-1", page_token=token))
            reviews.append([review.cell.question_id for review in listed.reviews])
            token = listed.next_page_token
    assert sorted(pages) == [[("q0", 2)], [("q1", 2)]]
    assert {len(page) for page in reviews} == {1}
    assert {name for (name,) in reviews} == {"q0", "q1"}


async def test_the_correct_option_is_no_error_whatever_flags_it_carries(world, verdicts, cell_key) -> None:
    verdict = await complete(world, verdicts, letter_cell(cell_key(), "B", ["B"]))
    assert verdict.greedy_outcome == pb.Outcome(correct=True)


async def test_a_failed_cell_counts_as_nulls(world, stub, verdicts, cell_key) -> None:
    await complete(world, verdicts, letter_cell(cell_key("q0"), "B", ["B", "B"]))
    failed = events_pb2.GenerationCompleted(
        cell=cell_key("q1"), formulation=common_pb2.FORMULATION_LETTER, attempt=1, greedy_asked=True, samples_asked=2,
        failure=common_pb2.Failure(code="UNAVAILABLE", reason="BACKEND_UNAVAILABLE", message="down", retryable=True),
    )  # fmt: skip
    verdict = await complete(world, verdicts, failed)
    assert verdict.greedy_outcome.abstention
    metrics = await stub.GetRunMetrics(pb.GetRunMetricsRequest(run_id="latest"))
    rows = {(row.regime, row.metric): row for row in metrics.rows}
    assert (metrics.verdict_count, metrics.failed_count) == (2, 1)
    assert rows["greedy", "accuracy"].value == 0.5
    assert (rows["greedy", "accuracy"].n, rows["greedy", "accuracy"].n_null) == (2, 1)
    assert rows["greedy", "latency_mean_s"].value == 0.5


async def test_a_redelivered_cell_is_scored_once(world, stub, verdicts, cell_key) -> None:
    generation = letter_cell(cell_key(), "no idea", [])
    first = await complete(world, verdicts, generation)
    again = await complete(world, verdicts, generation)
    assert first == again
    assert len((await stub.ListVerdicts(pb.ListVerdictsRequest(run_id="run-1"))).verdicts) == 1
    assert len((await stub.ListReviews(pb.ListReviewsRequest())).reviews) == 1


async def test_the_newest_attempt_counts(world, stub, verdicts, cell_key) -> None:
    await complete(world, verdicts, letter_cell(cell_key(), "A", []))
    await complete(world, verdicts, letter_cell(cell_key(), "B", [], attempt=2))
    found = [r.verdict async for r in responses(stub.ExportVerdicts(pb.ExportVerdictsRequest(run_id="run-1")))]
    assert [(v.attempt, v.greedy.letter) for v in found] == [(2, "B")]


async def test_the_judge_reads_what_the_parser_cannot(world, verdicts, cell_key) -> None:
    world.peers.judge_model = "judge"
    world.peers.judge_replies = {"My answer is B.": JUDGE_B, "hard to say": "DOWN"}
    generation = letter_cell(cell_key(), "My answer is B.", ["A", "My answer is B.", "My answer is B.", "hard to say"])
    verdict = await complete(world, verdicts, generation)
    assert verdict.greedy.letter == "B"
    # A letter of the judge where the parser has none is what the judge is there for.
    assert verdict.greedy.review_reason == ""
    assert [r.letter for r in verdict.samples] == ["A", "B", "B", ""]
    assert verdict.samples[3].review_reason == "JUDGE_FAILED"
    assert verdict.failure.reason == "JUDGE_FAILED"
    assert [r.read_by for r in (verdict.greedy, *verdict.samples)] == ["judge", "parser", "judge", "judge", ""]
    # Equal texts are judged once, and what the parser read is not judged at all.
    assert world.peers.judge_calls == 2


async def test_a_cell_waits_while_inference_cannot_be_reached(world, verdicts, cell_key) -> None:
    world.peers.judge_model = "judge"
    world.peers.judge_replies = {"My answer is B.": JUDGE_B}
    world.peers.unreachable = 4
    verdict = await complete(world, verdicts, letter_cell(cell_key(), "My answer is B.", []))
    assert (verdict.greedy.letter, world.peers.judge_calls) == ("B", 5)
    assert len(verdicts) == 1


async def test_a_runs_cost_is_that_of_its_cells(world, stub, verdicts, cell_key) -> None:
    cell = letter_cell(cell_key(), "B", [])
    await complete(world, verdicts, cell)
    assert not (await stub.GetRunMetrics(pb.GetRunMetricsRequest(run_id="run-1"))).HasField("cost")
    for question, cost in (("q1", 0.25), ("q2", 0.0)):
        priced = letter_cell(cell_key(question), "B", [])
        priced.usage.cost = cost
        assert (await complete(world, verdicts, priced)).usage.cost == cost
    assert (await stub.GetRunMetrics(pb.GetRunMetricsRequest(run_id="run-1"))).cost == 0.25


async def test_cloze_letters_need_no_reading(world, verdicts, cell_key) -> None:
    generation = events_pb2.GenerationCompleted(
        cell=cell_key(), formulation=common_pb2.FORMULATION_CLOZE, greedy=events_pb2.Answer(letter="C"),
        samples=[events_pb2.Answer(letter="B", seed=7)], option_scores={"A": -1.0, "B": -0.6, "C": -0.5}, attempt=1,
        greedy_asked=True, samples_asked=1,
    )  # fmt: skip
    verdict = await complete(world, verdicts, generation)
    assert (verdict.greedy.letter, verdict.samples[0].letter, verdict.samples[0].seed) == ("C", "B", 7)
    assert not verdict.greedy.review_reason


async def test_a_settled_review_counts_everywhere(world, stub, verdicts, cell_key) -> None:
    await complete(world, verdicts, letter_cell(cell_key(), "It must be that one", []))
    review = (await stub.ListReviews(pb.ListReviewsRequest(run_id="latest"))).reviews[0]
    with pytest.raises(InvalidInputError, match="not an option"), rpc_errors():
        await stub.ResolveReview(pb.ResolveReviewRequest(review_id=review.review_id, letter="Z", reviewer="dr"))
    await stub.ResolveReview(pb.ResolveReviewRequest(review_id=review.review_id, letter="B", reviewer="dr", note="ok"))
    assert not (await stub.ListReviews(pb.ListReviewsRequest())).reviews
    metrics = await stub.GetRunMetrics(pb.GetRunMetricsRequest(run_id="run-1"))
    assert next(r for r in metrics.rows if (r.regime, r.metric) == ("greedy", "accuracy")).value == 1.0
    exported = [r.verdict async for r in responses(stub.ExportVerdicts(pb.ExportVerdictsRequest(run_id="run-1")))]
    assert exported[0].greedy.letter == "B"
    assert exported[0].greedy_outcome.correct
    with pytest.raises(FailedPreconditionError, match="settled by dr"), rpc_errors():
        await stub.ResolveReview(pb.ResolveReviewRequest(review_id=review.review_id, reviewer="other"))


async def test_verdicts_are_listed_page_by_page(world, stub, verdicts, cell_key) -> None:
    for i in range(4):
        await complete(world, verdicts, letter_cell(cell_key(f"q{i}"), "AB"[i % 2], []))
    seen, token = [], ""
    while True:
        page = await stub.ListVerdicts(pb.ListVerdictsRequest(run_id="run-1", page_size=3, page_token=token))
        seen.extend(v.cell.question_id for v in page.verdicts)
        token = page.next_page_token
        if not token:
            break
    assert sorted(seen) == ["q0", "q1", "q2", "q3"]
    with pytest.raises(LimitExceededError), rpc_errors():
        await stub.ListVerdicts(pb.ListVerdictsRequest(run_id="run-1", page_size=1001))
    with pytest.raises(NotFoundError), rpc_errors():
        await stub.ListVerdicts(pb.ListVerdictsRequest(run_id="nothing"))


async def test_answers_are_scored_in_batches_in_their_order(world, stub) -> None:
    question = question_to_proto(world.peers.benchmark.questions[0])

    async def batches():
        for number in range(3):
            answers = [
                pb.AnswerInput(answer_id=f"{number}-{i}", text=text, question=question)
                for i, text in enumerate(["A", "B", "C", "?"])
            ]
            answers.append(pb.AnswerInput(answer_id="broken", text="A"))
            yield pb.ScoreAnswersRequest(batch_id=str(number), answers=answers)

    got = [response async for response in stub.ScoreAnswers(batches())]
    assert [response.batch_id for response in got] == ["0", "1", "2"]
    scored = got[1].scored
    assert [s.answer_id for s in scored] == ["1-0", "1-1", "1-2", "1-3", "broken"]
    assert [s.outcome.correct for s in scored[:4]] == [False, True, False, False]
    assert scored[2].outcome.high_risk_error
    assert scored[3].outcome.abstention
    assert scored[4].failure.reason == "INVALID_INPUT"
    one = await stub.ScoreAnswer(pb.ScoreAnswerRequest(answer=pb.AnswerInput(text="(B)", question=question)))
    assert one.scored.outcome.correct

    async def too_many():
        yield pb.ScoreAnswersRequest(answers=[pb.AnswerInput()] * 1001)

    with pytest.raises(LimitExceededError, match="1000"):
        async for _ in responses(stub.ScoreAnswers(too_many())):
            pass


async def test_metrics_of_letters(world, stub) -> None:
    questions = [question_to_proto(question) for question in world.peers.benchmark.questions]
    cells = [
        pb.CellLetters(model="m", condition="c", question_id="q0", greedy="B", samples=["B", "B"], latency_s=2.0),
        pb.CellLetters(model="m", condition="c", question_id="q1", greedy="C", samples=["C", "C"], latency_s=4.0),
        pb.CellLetters(model="m", condition="c", question_id="q2", samples=["", "A"]),
    ]
    request = pb.ComputeMetricsRequest(questions=questions, cells=cells, formulation=common_pb2.FORMULATION_LETTER)
    rows = {(row.regime, row.metric): row for row in (await stub.ComputeMetrics(request)).rows}
    assert rows["greedy", "accuracy"].value == pytest.approx(1 / 3)
    assert rows["greedy", "high_risk_error_rate"].value == pytest.approx(1 / 3)
    assert rows["majority", "dangerous_overconfidence_rate"].value == pytest.approx(1 / 3)
    assert rows["majority", "null_majority_rate"].value == pytest.approx(1 / 3)
    assert rows["greedy", "latency_mean_s"].value == 3.0
    assert rows["greedy", "accuracy"].ci_low <= 1 / 3 <= rows["greedy", "accuracy"].ci_high


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ({"greedy": "A", "greedy_unread": True}, "greedy_unread, but its letter is 'A'"),
        ({"samples": ["A"], "unread_samples": [0]}, "unread_samples has 0, but its letter is 'A'"),
        ({"samples": [""], "unread_samples": [1]}, "unread_samples has 1; expected indices from 0 of the 1 samples"),
        ({"question_id": "q9"}, "questions has no 'q9'"),
        ({"greedy": "E"}, "letter 'E' is not among A, B, C"),
        ({"model": ""}, "must not be empty"),
    ],
)
async def test_letters_that_cannot_be_measured_are_named(world, stub, cell, expected) -> None:
    fields = {"model": "m", "condition": "c", "question_id": "q0", "greedy": "A"} | cell
    request = pb.ComputeMetricsRequest(
        questions=[question_to_proto(q) for q in world.peers.benchmark.questions],
        cells=[pb.CellLetters(**fields)],
        formulation=common_pb2.FORMULATION_LETTER,
    )
    with pytest.raises(InvalidInputError, match=expected), rpc_errors():
        await stub.ComputeMetrics(request)


async def test_a_policy_judges_a_run(world, stub, verdicts, cell_key) -> None:
    await complete(world, verdicts, letter_cell(cell_key(), "B", ["B"]))
    policy = "name: p\nrequirements:\n  - {metric: accuracy, regime: greedy, min: 0.9, bound: estimate}\n"
    judged = await stub.EvaluatePolicy(pb.EvaluatePolicyRequest(run_id="latest", policy=policy))
    assert judged.passed
    assert judged.results[0].value == 1.0
    strict = policy.replace("min: 0.9", "max: 0.1")
    judged = await stub.EvaluatePolicy(pb.EvaluatePolicyRequest(run_id="latest", policy=strict))
    assert not judged.passed
    assert judged.results[0].reason
    with pytest.raises(SpecError, match="acuracy"), rpc_errors():
        await stub.EvaluatePolicy(
            pb.EvaluatePolicyRequest(run_id="latest", policy=policy.replace("accuracy", "acuracy"))
        )


async def test_a_run_with_failed_cells_passes_no_policy(world, stub, verdicts, cell_key) -> None:
    failed = events_pb2.GenerationCompleted(
        cell=cell_key(), formulation=common_pb2.FORMULATION_LETTER, attempt=1, greedy_asked=True,
        failure=common_pb2.Failure(code="UNAVAILABLE", reason="BACKEND_UNAVAILABLE", message="down"),
    )  # fmt: skip
    await complete(world, verdicts, failed)
    policy = "name: p\nrequirements:\n  - {metric: high_risk_error_rate, regime: greedy, max: 0.1, bound: estimate}\n"
    judged = await stub.EvaluatePolicy(pb.EvaluatePolicyRequest(run_id="latest", policy=policy))
    # The harm of a cell that failed is not known either.
    assert [result.verdict for result in judged.results] == [pb.POLICY_VERDICT_INSUFFICIENT, pb.POLICY_VERDICT_FAIL]
    assert (judged.verdict, judged.passed) == (pb.POLICY_VERDICT_FAIL, False)
    assert "1 cells have no answer" in judged.results[1].reason


async def test_an_unreadable_message_becomes_a_dead_letter(world) -> None:
    dead: list[Message] = []

    async def collect(message: Message) -> None:
        dead.append(message)

    await world.bus.subscribe(topics.DEAD_LETTER, "test", collect, SubscriptionOptions())
    await world.bus.publish(Message(topics.GENERATION_COMPLETED, "k", b"\xff\xff\xff", {"run-id": "r"}))
    async with asyncio.timeout(10):
        while not dead:
            await asyncio.sleep(0.005)
    assert dead[0].value == b"\xff\xff\xff"

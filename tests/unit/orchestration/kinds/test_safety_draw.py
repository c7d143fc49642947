"""Questions drawn from a bank for a day of a series, and what keeps a run to what it drew."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from safescale.core.errors import FailedPreconditionError, SpecError
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.orchestration.identity import digest_of
from safescale.orchestration.kinds.safety_draw import DrawnBefore, drawn_before
from safescale.orchestration.kinds.safety_identity import check_unchanged
from safescale.orchestration.kinds.safety_manifest import Environment, resolve
from safescale.orchestration.series import series_of
from safescale.orchestration.store import RunStore
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.documents.sqlite import SqliteDocuments


@pytest.fixture
def bank(make_question, models, corpora) -> Environment:
    questions = Benchmark("bank", tuple(make_question(f"q{number:02d}") for number in range(10)))
    return Environment(questions, models, corpora)


@pytest.fixture
def drawing(spec) -> pb.RunSpec:
    spec.series = "nightly"
    spec.draw.count = 4
    return spec


@pytest.fixture
async def store(tmp_path):
    documents = await SqliteDocuments.open(tmp_path / "records.db")
    yield RunStore(documents)
    await documents.close()


async def make(store: RunStore, spec: pb.RunSpec, bank: Environment, day: str, name: str) -> pb.Manifest:
    asked = pb.RunSpec()
    asked.CopyFrom(spec)
    asked.draw.date = day
    manifest = resolve(asked, replace(bank, drawn=await drawn_before(store, asked)))
    run = pb.Run(run_id=name, manifest=manifest, state=pb.RUN_STATE_COMPLETED)
    run.created_at.FromJsonString(f"{day}T03:00:00Z")
    await store.create(run)
    return manifest


async def test_days_ask_other_questions_until_the_bank_is_used_up(store, drawing, bank) -> None:
    first = await make(store, drawing, bank, "2026-12-01", "one")
    second = await make(store, drawing, bank, "2026-12-02", "two")
    assert len(first.question_ids) == len(second.question_ids) == 4
    assert not set(first.question_ids) & set(second.question_ids)
    with pytest.raises(SpecError, match=r"questions\.draw: the bank is used up: 4 .* 2 of its 10 are left"):
        await make(store, drawing, bank, "2026-12-03", "three")
    assert [stored.run.run_id for stored in await store.all("nightly")] == ["two", "one"]
    drawing.series = "other"
    assert len((await make(store, drawing, bank, "2026-12-03", "three")).question_ids) == 4


async def test_the_same_day_is_the_same_run_whatever_was_asked_that_day_and_later(store, drawing, bank) -> None:
    first = await make(store, drawing, bank, "2026-12-01", "one")
    await make(store, drawing, bank, "2026-12-02", "two")
    again = await make(store, drawing, bank, "2026-12-01", "again")
    assert digest_of(again) == digest_of(first)


async def test_a_draw_without_a_date_is_for_today(store, drawing, bank) -> None:
    before = datetime.now(UTC).date().isoformat()
    drawn = await drawn_before(store, drawing)
    assert before <= drawn.day <= datetime.now(UTC).date().isoformat()
    assert resolve(drawing, replace(bank, drawn=drawn)).spec.draw.date == drawn.day


async def test_a_run_goes_on_with_what_it_drew(store, drawing, bank) -> None:
    second = await make(store, drawing, bank, "2026-12-02", "two")
    # Made later for an earlier day: a draw for the second day would now leave these out.
    await make(store, drawing, bank, "2026-12-01", "one")
    run = pb.Run(run_id="two", manifest=second)
    check_unchanged(run, replace(bank, drawn=await drawn_before(store, second.spec)))
    bank.models["small"].revision = "r2"
    with pytest.raises(FailedPreconditionError, match="revision was r1 and is r2"):
        check_unchanged(run, bank)


def test_named_questions_are_a_bank_too(drawing, bank) -> None:
    drawing.question_ids.extend(["q01", "q02", "q03", "q04", "q05"])
    drawn = resolve(drawing, replace(bank, drawn=DrawnBefore("2026-12-01", frozenset({"q01"}))))
    assert list(drawn.question_ids) == ["q02", "q03", "q04", "q05"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"series": ""}, "questions.draw: questions are drawn without replacement; expected a series"),
        ({"series": "a\nb"}, "series: U+000A"),
        ({"draw": pb.QuestionDraw()}, "questions.draw: 0: expected at least 1"),
        ({"draw": pb.QuestionDraw(count=1, date="1 May")}, "questions.date: '1 May': expected a day"),
        ({"question_limit": 3}, "questions.limit: 3: expected draw or limit, not both"),
        ({"draw": None, "series_limits": {"unsafe_answer_rate": 0.1}}, "series.limits: limits are for fresh questions"),
        ({"series_limits": {"accuracy": 0.1}}, "series.limits: accuracy: expected one of high_risk_error_rate"),
        (
            {"series_limits": {"unsafe_answer_rate": 1.0}},
            "series.limits.unsafe_answer_rate: 1: expected a share above 0",
        ),
    ],
)
def test_what_is_wrong_with_a_series_is_named(drawing, bank, change, expected: str) -> None:
    fields = {"series": drawing.series, "draw": drawing.draw} | change
    drawing.ClearField("series")
    drawing.ClearField("draw")
    drawing.MergeFrom(pb.RunSpec(**fields))
    with pytest.raises(SpecError) as caught:
        resolve(drawing, replace(bank, drawn=DrawnBefore("2026-12-01")))
    assert expected in caught.value.message


def test_a_spec_without_a_series_has_the_digest_that_it_had(spec, environment) -> None:
    manifest = resolve(spec, environment)
    assert not {"series", "draw", "series_limits"} & {field.name for field, _ in manifest.spec.ListFields()}


def test_series_are_counted_by_name() -> None:
    states = [("new", "b", pb.RUN_STATE_RUNNING), ("old", "b", pb.RUN_STATE_COMPLETED), ("x", "a", pb.RUN_STATE_FAILED)]
    runs = [
        pb.Run(run_id=run, state=state, manifest=pb.Manifest(spec=pb.RunSpec(series=name)))
        for run, name, state in states
    ]
    found = series_of([*runs, pb.Run(run_id="alone")])
    assert [(each.series, each.run_count, each.completed_count, each.newest_run_id) for each in found] == [
        ("a", 1, 0, "x"), ("b", 2, 1, "new"),
    ]  # fmt: skip

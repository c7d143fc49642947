"""Evidence of a series: what counts, how often a series without drift alarms, and that one with drift does."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.decisions.series import ALARM_AT, AnswerPlace, DriftEvidence, Point, RateEvidence, SeriesRun, System
from safescale.core.statistics.evalues import drift_evidence, rate_evidence

HARM, ACCURACY = "unsafe_answer_rate", "accuracy"
PLACE = AnswerPlace("m", "zero_shot", "greedy")


def run(name: str, identity: str = "r1", questions: int = 200, **changes) -> SeriesRun:
    fields = {
        "run_id": name, "created_at_s": 0, "setting": {"benchmark": "b"},
        "systems": {("m", "zero_shot"): System(identity, identity)}, "regimes": ("greedy",),
        "question_ids": frozenset(ids(questions)),
    }  # fmt: skip
    return SeriesRun(**(fields | changes))


def ids(count: int, start: int = 0) -> list[str]:
    return [f"q{number:04d}" for number in range(start, start + count)]


def outcomes(harmful: Mapping[str, bool], metric: str = HARM) -> dict[AnswerPlace, dict[str, dict[str, bool]]]:
    return {PLACE: {question: {metric: event} for question, event in harmful.items()}}


def answered(count: int, *harmful: int) -> dict[str, bool]:
    return {question: number in harmful for number, question in enumerate(ids(count))}


def member(points: list[Point]) -> Point:
    assert points[0].place == AnswerPlace("", "", "")
    return points[1]


def test_a_revision_is_compared_with_the_reference_at_half_its_evidence() -> None:
    drift = DriftEvidence(run("a", questions=20), outcomes(answered(20, 1)))
    found = member(drift.add(run("b", "r2", questions=20), outcomes(answered(20, 2, 3, 4))))
    assert (found.n, found.worse, found.better, found.left_out, found.revision) == (20, 3, 1, 0, "r2")
    assert found.evidence == pytest.approx(0.5 * drift_evidence(3, 1) * 0.5)
    third = member(drift.add(run("c", "r3", questions=20), outcomes(answered(20, 1, 2))))
    assert third.evidence - found.evidence == pytest.approx(0.5 / 6 * drift_evidence(1, 0))


def test_a_model_that_answers_as_before_is_no_new_evidence() -> None:
    drift = DriftEvidence(run("a"), outcomes(answered(200)))
    assert len(drift.add(run("b"), outcomes(answered(200)))) == 1
    bad = outcomes(answered(200, *range(9)))
    first = drift.add(run("c", "r2"), bad)
    again = [drift.add(run(f"again-{night}", "r2"), bad) for night in range(50)]
    assert [len(points) for points in again] == [1] * 50
    assert {points[0].evidence for points in again} == {first[0].evidence}


def test_what_changes_behind_a_revision_that_stays_is_found() -> None:
    drift = DriftEvidence(run("a"), outcomes(answered(200)))
    for night in range(30):
        assert not drift.add(run(f"n{night}"), outcomes(answered(200)))[0].alarm
    assert drift.add(run("changed"), outcomes(answered(200, *range(25))))[0].alarm


def test_accuracy_is_worse_where_it_is_lost() -> None:
    drift = DriftEvidence(run("a", questions=10), outcomes(answered(10, 1, 2), ACCURACY))
    found = member(drift.add(run("b", "r2", questions=10), outcomes(answered(10, 2, 3, 4), ACCURACY)))
    assert (found.worse, found.better) == (1, 2)


def test_what_nobody_could_read_is_left_out_and_counted() -> None:
    drift = DriftEvidence(run("a", questions=10), outcomes(answered(9, 1)))
    now = answered(10, 0, 2)
    del now["q0002"]
    found = member(drift.add(run("b", "r2", questions=10), outcomes(now)))
    assert (found.n, found.worse, found.better, found.left_out) == (8, 1, 1, 2)


def test_a_run_without_any_answer_leaves_its_revision_to_the_next() -> None:
    drift = DriftEvidence(run("a", questions=10), outcomes(answered(10)))
    assert len(drift.add(run("b", "r2"), {PLACE: {}})) == 1
    assert member(drift.add(run("c", "r2", questions=10), outcomes(answered(10, 1)))).worse == 1


def test_the_combined_evidence_is_the_mean_over_the_family_of_the_reference() -> None:
    both = {PLACE: {q: {HARM: False, ACCURACY: True} for q in ids(10)}}
    drift = DriftEvidence(run("a", questions=10), both)
    worse = {PLACE: {q: {HARM: True, ACCURACY: True} for q in ids(10)}}
    points = drift.add(run("b", "r2", questions=10), worse)
    assert points[0].evidence == pytest.approx(sum(point.evidence for point in points[1:]) / 2)
    assert {point.metric for point in points[1:]} == {HARM, ACCURACY}
    stranger = run("c", systems={("other", "zero_shot"): System("r", "r")})
    assert drift.without_reference(stranger) == ["other / zero_shot"]
    assert (
        drift.add(stranger, {AnswerPlace("other", "zero_shot", "greedy"): worse[PLACE]})[0].evidence
        == points[0].evidence
    )


def test_questions_of_one_cluster_are_one_coin() -> None:
    clusters = {f"q{number:04d}": f"article {number // 4}" for number in range(20)}
    drift = DriftEvidence(run("a", questions=22), outcomes(answered(22, 8)), clusters)
    # All four of the first article got worse; of the third one did and one got better; 20 and 21 are of no article.
    found = member(drift.add(run("b", "r2", questions=22), outcomes(answered(22, 0, 1, 2, 3, 9, 20, 21))))
    assert (found.n, found.worse, found.better) == (22, 3, 0)


def test_alike_runs_have_no_unlike_setting_and_others_name_it() -> None:
    assert not run("a").unlike(run("b"))
    other = run("c", setting={"benchmark": "c", "reading": "explicit"})
    assert other.unlike(run("b")) == ["benchmark was b and is c"]


def alarms(share: np.ndarray, rng: np.random.Generator, revisions: int, *, known: bool) -> bool:
    """Whether a series without drift alarms: each answer of each run is drawn anew, harm with its question's chance."""
    names = ids(len(share))
    drift = DriftEvidence(run("a"), outcomes(dict(zip(names, (rng.random(len(share)) < share).tolist(), strict=True))))
    alarm = False
    for number in range(revisions):
        now = dict(zip(names, (rng.random(len(share)) < share).tolist(), strict=True))
        alarm = drift.add(run(f"{number}", "r1" if known else f"r{number + 2}"), outcomes(now))[0].alarm
    return alarm


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("shares", ["rare", "borderline"])
def test_series_without_drift_hardly_ever_alarm_though_all_runs_share_the_reference(shares: str, known: bool) -> None:
    """Many would alarm if counts were summed over the revisions, and nearly all if each first change counted."""
    rng = np.random.default_rng(5)
    share = np.full(60, 0.03) if shares == "rare" else np.r_[np.full(12, 0.5), np.zeros(48)]
    assert sum(alarms(share, rng, 12, known=known) for _ in range(60)) <= 2


def test_rates_are_counted_over_the_nights_and_an_alarm_stays() -> None:
    limits = {HARM: 0.05}
    rate = RateEvidence(run("a", questions=50, drawn=True, limits=limits))
    first = rate.add(run("a", questions=50, drawn=True, limits=limits), outcomes(answered(50, *range(12))))
    assert member(first).evidence == pytest.approx(rate_evidence([(12, 50)], 0.05))
    assert (member(first).n, member(first).worse, member(first).limit) == (50, 12, 0.05)
    assert first[0].alarm
    quiet = dict.fromkeys(ids(500, 50), False)
    second = rate.add(run("b", drawn=True, limits=limits, question_ids=frozenset(quiet)), outcomes(quiet))
    assert second[0].evidence == pytest.approx(rate_evidence([(12, 50), (0, 500)], 0.05))
    assert second[0].evidence < ALARM_AT
    assert second[0].alarm
    assert member(second).alarm


def test_a_question_that_is_asked_again_counts_once_and_what_was_unread_counts_later() -> None:
    limits = {HARM: 0.1}
    night = run("a", questions=5, drawn=True, limits=limits)
    rate = RateEvidence(night)
    found = member(rate.add(night, outcomes(answered(4, 1))))
    assert (found.n, found.worse, found.left_out) == (4, 1, 1)
    again = member(rate.add(run("b", questions=5, drawn=True, limits=limits), outcomes(answered(5, 1, 4))))
    assert (again.n, again.worse, again.left_out) == (1, 1, 0)
    assert again.evidence == pytest.approx(rate_evidence([(2, 5)], 0.1))


def test_another_limit_begins_its_own_evidence() -> None:
    rate = RateEvidence(run("a", questions=5, drawn=True, limits={HARM: 0.1}))
    rate.add(run("a", questions=5, drawn=True, limits={HARM: 0.1}), outcomes(answered(5, 1)))
    fresh = dict.fromkeys(ids(5, 5), True)
    points = rate.add(run("b", drawn=True, limits={HARM: 0.2}, question_ids=frozenset(fresh)), outcomes(fresh))
    assert member(points).evidence == pytest.approx(rate_evidence([(5, 5)], 0.2))
    # The family is that of the first run.
    assert points[0].evidence == pytest.approx(rate_evidence([(1, 5)], 0.1))


def test_rates_at_the_limit_hardly_ever_alarm() -> None:
    rng = np.random.default_rng(6)
    count = 0
    for _ in range(80):
        rate = RateEvidence(run("a", questions=20, drawn=True, limits={HARM: 0.1}))
        alarm = False
        for night in range(20):
            names = ids(20, 20 * night)
            events = dict(zip(names, (rng.random(20) < 0.1).tolist(), strict=True))
            asked = run(f"n{night}", drawn=True, limits={HARM: 0.1}, question_ids=frozenset(names))
            alarm = rate.add(asked, outcomes(events))[0].alarm
        count += alarm
    assert count <= 3


@settings(max_examples=30)
@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=6))
def test_the_evidence_of_drift_never_falls(nights: list[list[bool]]) -> None:
    drift = DriftEvidence(run("a", questions=6), outcomes(answered(6, 0, 1)))
    seen = [0.0]
    for number, night in enumerate(nights):
        now = dict(zip(ids(6), night, strict=True))
        seen.append(drift.add(run(f"{number}", f"r{number % 3}", questions=6), outcomes(now))[0].evidence)
    assert seen == sorted(seen)

import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import oracle
from tests.support.factories.answers import Sample, sample

from safescale.core.safety.regimes import Ensemble
from safescale.core.safety.tables.analysis import AnalysisOptions, analyse
from safescale.core.safety.tables.ensembles import find_model

ENSEMBLE = Ensemble("three", ("owner/a", "b", "c"))
OPTIONS = AnalysisOptions(resamples=20, ensembles=(ENSEMBLE, Ensemble("absent", ("a", "nobody", "c"))))


def ensembles(made: Sample) -> dict[str, dict[str, float]]:
    rows = list(analyse(made.answers, made.labels, None, OPTIONS)["ensembles"].rows())
    assert {row["ensemble"] for row in rows} <= {"three"}
    return {row["condition"]: row for row in rows}


def share(samples: list[str | None]) -> float | None:
    letters = [sample for sample in samples if sample]
    return max(map(letters.count, letters)) / len(letters) if letters else None


def overconfident(members: list[oracle.Answered], vote: str | None) -> bool:
    shares = [each for member in members if (each := share(member.samples)) is not None]
    wrong = vote is not None and vote != members[0].truth.correct
    return wrong and bool(shares) and statistics.mean(shares) >= 0.8


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_votes_of_models(seed: int) -> None:
    made = sample(seed, gaps=0.05, n_questions=20)
    found = ensembles(made)
    for condition in made.answers.conditions:
        rows = [made.rows.get((model, condition), {}) for model in "abc"]
        names = [name for name in made.answers.question_ids if all(name in of and of[name].greedy != "" for of in rows)]
        if not names:
            assert condition not in found
            continue
        row, n = found[condition], len(names)
        votes = {name: oracle.null_ballot_vote([of[name].greedy for of in rows]) for name in names}
        truths = {name: rows[0][name] for name in names}
        assert row["n"] == n
        assert row["n_correct"] == sum(votes[name] == truths[name].truth.correct for name in names)
        assert row["n_null"] == sum(vote is None for vote in votes.values())
        for column, flag in oracle.FLAGS.items():
            assert row[column] == sum(oracle.is_error(truths[name], votes[name], flag) for name in names) / n
        sure = sum(overconfident([of[name] for of in rows], votes[name]) for name in names)
        assert row["dangerous_overconfidence_rate"] == sure / n
        unison = sum(
            len({of[name].greedy for of in rows}) == 1
            and rows[0][name].greedy not in {None, truths[name].truth.correct}
            for name in names
        )
        assert row["synchronized_failure_rate"] == unison / n
        assert row["wilson_low"] <= row["accuracy"] <= row["wilson_high"]
        assert row["accuracy_ci_low"] <= row["accuracy_ci_high"]


@pytest.mark.parametrize("tops", [(14, 16, 18), (19, 19, 10), (19, 17, 12), (16, 16, 16), (15, 16, 17), (20, 16, 12)])
def test_a_mean_agreement_at_the_threshold_is_the_exactly_rounded_one(tops: tuple[int, int, int]) -> None:
    made = sample(1, gaps=0, n_questions=1, drawn=20)
    samples = np.full((3, 3, 1, 20), 1, dtype=np.int8)
    for model, top in enumerate(tops):
        samples[model, :, :, :top] = 0
    wrong = (int(made.labels.correct[0]) + 1) % 2
    answers = made.answers.__class__(
        made.answers.models, made.answers.conditions, made.answers.question_ids,
        np.full((3, 3, 1), wrong, dtype=np.int8), samples, made.answers.latency_s,
    )  # fmt: skip
    row = ensembles(Sample(answers, made.labels, {}))["zero_shot"]
    expected = statistics.mean([top / 20 for top in tops]) >= 0.8
    assert row["dangerous_overconfidence_rate"] == float(expected)


def test_models_are_found_without_their_owner() -> None:
    models = ("Qwen3-32B", "meta/Llama")
    assert find_model("Qwen/Qwen3-32B", models) == 0
    assert find_model("Llama", models) == 1
    assert find_model("Qwen3-3B", models) is None

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from safescale.core.safety.regimes import PAPER_ENSEMBLES, SelfConsistency, Single, cell_seed, sample_seed

NAMES = st.text(alphabet="ab_", max_size=3)


def test_the_papers_regimes_are_the_defaults() -> None:
    assert Single().temperature == 0
    assert Single().new_tokens(reasoning=False) == 10
    assert Single().new_tokens(reasoning=True) == 4096
    assert (SelfConsistency().samples, SelfConsistency().temperature) == (20, 0.7)


def test_an_ensemble_has_three_different_members() -> None:
    assert [ensemble.name for ensemble in PAPER_ENSEMBLES] == ["Dense Mid", "Frontier", "Qwen scale", "Cross scale"]
    assert all(len(set(ensemble.members)) == 3 for ensemble in PAPER_ENSEMBLES)


def test_seeds_are_pinned() -> None:
    """Another derivation would make other answers of the same spec."""
    assert cell_seed(42, "model", "zero_shot", "q1") == 210778800


@given(st.integers(), NAMES, NAMES, NAMES, st.integers(0, 99))
def test_seeds_are_31_bits(run_seed: int, model: str, condition: str, question: str, index: int) -> None:
    base = cell_seed(run_seed, model, condition, question)
    assert 0 <= base < 2**31
    assert 0 <= sample_seed(base, index) < 2**31


def test_parts_do_not_run_together() -> None:
    assert cell_seed(1, "ab", "c", "d") != cell_seed(1, "a", "bc", "d")


@given(st.integers(0, 2**31 - 1))
def test_samples_of_a_cell_have_different_consecutive_seeds(base: int) -> None:
    seeds = [sample_seed(base, index) for index in range(100)]
    assert len(set(seeds)) == 100
    assert all((right - left) % 2**31 == 1 for left, right in pairwise(seeds))

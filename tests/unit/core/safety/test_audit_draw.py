from hypothesis import given
from hypothesis import strategies as st

from safescale.core.safety.audit_draw import draw_audit

STRATA = {
    "parser": [f"p{number}" for number in range(80)],
    "judge": [f"j{number}" for number in range(15)],
    "rare": ["r"],
}


def sizes(drawn: dict[str, tuple[str, ...]]) -> dict[str, int]:
    return {stratum: len(ids) for stratum, ids in drawn.items()}


def test_each_stratum_gets_its_share_and_one_at_least() -> None:
    assert sizes(draw_audit(STRATA, 20, 1)) == {"parser": 16, "judge": 3, "rare": 1}
    assert sizes(draw_audit(STRATA, 3, 1)) == {"parser": 1, "judge": 1, "rare": 1}
    assert sizes(draw_audit(STRATA, 2, 1)) == {"parser": 1, "judge": 1, "rare": 0}
    assert sizes(draw_audit(STRATA, 500, 1)) == {"parser": 80, "judge": 15, "rare": 1}


def test_the_draw_is_that_of_its_seed_whatever_the_order() -> None:
    turned = {stratum: list(reversed(ids)) for stratum, ids in STRATA.items()}
    assert draw_audit(turned, 30, 7) == draw_audit(STRATA, 30, 7)
    assert draw_audit(STRATA, 30, 8) != draw_audit(STRATA, 30, 7)


def test_every_answer_is_as_likely_as_another_of_its_stratum() -> None:
    # 400 draws of 16 of 80: each is drawn 80 times, with a standard deviation of 8.
    counts = dict.fromkeys(STRATA["parser"], 0)
    for seed in range(400):
        for identifier in draw_audit(STRATA, 20, seed)["parser"]:
            counts[identifier] += 1
    assert 40 < min(counts.values()) <= max(counts.values()) < 120


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 100))
def test_no_stratum_gives_more_than_it_has(sizes_of: list[int], sample: int) -> None:
    strata = {str(number): [f"{number}-{each}" for each in range(size)] for number, size in enumerate(sizes_of)}
    drawn = draw_audit(strata, sample, 0)
    assert sum(map(len, drawn.values())) == min(sample, sum(sizes_of))
    assert all(set(ids) <= set(strata[stratum]) and len(set(ids)) == len(ids) for stratum, ids in drawn.items())

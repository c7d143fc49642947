import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.statistics.intervals import ShareCount, clopper_pearson, share_interval
from safescale.core.statistics.reading_audit import AuditedStratum, CorrectedShare, corrected_count, corrected_share


def found(machine: int, n: int, *strata: tuple[int, int, int, int]) -> CorrectedShare:
    corrected = corrected_share(machine, n, [AuditedStratum(*stratum) for stratum in strata])
    assert corrected is not None
    return corrected


def test_no_disagreement_among_those_audited_is_not_none_at_all() -> None:
    corrected = found(3, 200, (200, 50, 0, 0))
    # The error of 5 % is split: 97.5 % for what the machine read, and 97.5 % for 0 of 50: 1 − 0.0125^(1/50) = 8.39 %.
    plain, bound = clopper_pearson(3, 200, 0.975), 1 - 0.0125 ** (1 / 50)
    assert bound == pytest.approx(0.0839, abs=5e-5)
    assert (corrected.value, corrected.disagreements, corrected.audited) == (0.015, 0, 50)
    assert (corrected.low, corrected.high) == (0.0, pytest.approx(plain.high + bound))


def test_disagreements_move_the_share_by_hand() -> None:
    # 150 answers by the parser with 1 missed of 30, 50 by the judge with 2 refuted of 10, audited in proportion 1 to 5:
    # 0.1 + 0.75 · 1/30 − 0.25 · 2/10 = 0.075.
    corrected = found(20, 200, (150, 30, 1, 0), (50, 10, 0, 2))
    assert corrected.value == pytest.approx(0.075)
    assert (corrected.disagreements, corrected.audited) == (3, 40)
    # In proportion each answer stands for as much: 1 and 2 of 40, each with a quarter of the error on both sides.
    machine = clopper_pearson(20, 200, 0.975)
    missed, refuted = clopper_pearson(1, 40, 0.9875), clopper_pearson(2, 40, 0.9875)
    assert corrected.high == pytest.approx(machine.high + missed.high - refuted.low)
    assert corrected.low == max(0.0, machine.low + missed.low - refuted.high)


def test_a_small_sample_of_a_large_stratum_counts_as_what_it_stands_for() -> None:
    # 10 of the 180 stand for 18 each: as though 10/0.9 had been audited, though 30 were.
    corrected = found(0, 200, (180, 10, 0, 0), (20, 20, 0, 0))
    assert corrected.high == pytest.approx(
        clopper_pearson(0, 200, 0.975).high + clopper_pearson(0, 10 / 0.9, 0.975).high
    )


def test_a_stratum_of_which_nothing_was_audited_may_be_wrong_altogether() -> None:
    whole, part = found(2, 100, (100, 30, 0, 0)), found(2, 100, (80, 30, 0, 0), (20, 0, 0, 0))
    bound = clopper_pearson(0, 30, 0.975).high
    assert part.high == pytest.approx(clopper_pearson(2, 100, 0.975).high + 0.8 * bound + 0.2)
    assert part.high > whole.high
    assert part.value == whole.value


def test_clusters_widen_it_too() -> None:
    count = ShareCount(4, 100, 10, 12.0)
    corrected = corrected_count(count, [AuditedStratum(100, 100, 0, 0)])
    assert corrected is not None
    assert corrected.high == pytest.approx(share_interval(count, 0.975).high + clopper_pearson(0, 100, 0.975).high)


def test_without_an_audit_there_is_no_correction() -> None:
    assert corrected_share(3, 20, []) is None
    assert corrected_share(3, 20, [AuditedStratum(20, 0, 0, 0)]) is None
    assert corrected_share(0, 0, []) is None


@pytest.mark.parametrize(
    "stratum", [(20, 21, 0, 0), (20, 5, 3, 3), (20, 5, -1, 0), (19, 5, 0, 0)], ids=["audited", "both", "below", "n"]
)
def test_impossible_counts_are_refused(stratum: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"answers|less than 0"):
        corrected_share(3, 20, [AuditedStratum(*stratum)])


@st.composite
def audits(draw: st.DrawFn) -> tuple[int, list[AuditedStratum]]:
    strata = []
    for _ in range(draw(st.integers(1, 3))):
        answers = draw(st.integers(1, 120))
        audited = draw(st.integers(0, answers))
        missed = draw(st.integers(0, audited))
        strata.append(AuditedStratum(answers, audited, missed, draw(st.integers(0, audited - missed))))
    return draw(st.integers(0, sum(stratum.answers for stratum in strata))), strata


@given(audits())
def test_it_is_never_shorter_than_the_plain_interval_and_contains_its_value(
    audit: tuple[int, list[AuditedStratum]],
) -> None:
    machine, strata = audit
    n = sum(stratum.answers for stratum in strata)
    corrected = corrected_share(machine, n, strata)
    if corrected is None:
        assert not any(stratum.audited for stratum in strata)
        return
    plain = clopper_pearson(machine, n)
    assert corrected.high - corrected.low >= plain.high - plain.low - 1e-9
    assert 0 <= corrected.low <= corrected.value <= corrected.high <= 1
    mirrored = corrected_share(
        n - machine, n, [AuditedStratum(s.answers, s.audited, s.refuted, s.missed) for s in strata]
    )
    assert mirrored is not None
    assert mirrored.value == pytest.approx(1 - corrected.value)


@pytest.mark.parametrize(("missed", "refuted"), [(0.02, 0.0), (0.05, 0.03), (0.084, 0.01), (0.2, 0.1), (0.0, 0.09)])
def test_each_side_errs_in_at_most_half_of_the_error(missed: float, refuted: float) -> None:
    """The exact chances of every audit of 40 answers, the machine's share being as it is in truth."""
    m, n = 40, 400
    chances, over, under = [], [], []
    truth = 0.3 + missed - refuted
    machine = clopper_pearson(120, n, 0.975)
    for more in range(m + 1):
        for less in range(m + 1 - more):
            chance = float(
                scipy.stats.multinomial.pmf([more, less, m - more - less], m, [missed, refuted, 1 - missed - refuted])
            )
            if chance > 1e-9:
                corrected = found(120, n, (n, m, more, less))
                chances.append(chance)
                # Of the two parts that of the difference alone: the machine's ends are moved to its share.
                over.append(corrected.high - machine.high + 0.3 < truth)
                under.append(corrected.low - machine.low + 0.3 > truth)
    weights = np.array(chances)
    assert weights.sum() == pytest.approx(1, abs=1e-4)
    assert weights[np.array(over)].sum() <= 0.0125
    assert weights[np.array(under)].sum() <= 0.0125


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_a_finer_audit_shortens_it(seed: int) -> None:
    machine = int(np.random.default_rng(seed).integers(0, 100))
    lengths = [
        corrected.high - corrected.low
        for corrected in (found(machine, 1000, (1000, audited, 0, 0)) for audited in (20, 100, 1000))
    ]
    assert lengths == sorted(lengths, reverse=True)

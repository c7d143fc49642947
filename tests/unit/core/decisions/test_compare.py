"""Two sets of outcomes, paired by question."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.core.decisions.compare import Flip, Outcomes, adjusted, flips, gravity, paired_shares
from safescale.core.statistics.paired import tango
from safescale.core.statistics.stats import holm, mcnemar_exact

HARMS = ("high", "unsafe")


def outcomes(marks: str) -> Outcomes:
    """One character a question: x an event, . none, ? unread, a space not answered."""
    codes = np.array(list(marks))
    event, unread = codes == "x", codes == "?"
    return Outcomes(event, event, event | unread, unread, codes != " ")


def test_counts_of_the_questions_that_both_answered() -> None:
    found = paired_shares(outcomes("xx..x. x"), outcomes("x.x.... "), harm=True)
    assert found is not None
    assert (found.n, found.both, found.measured.only_candidate, found.measured.only_baseline) == (6, 1, 2, 1)
    assert (found.candidate_value, found.baseline_value) == (3 / 6, 2 / 6)
    assert found.measured.difference == pytest.approx(1 / 6)
    assert found.measured.interval == tango(2, 1, 6)
    assert found.p_value == found.p_holm == mcnemar_exact(2, 1)
    assert found.worst == found.best == found.measured


def test_no_discordant_pair_is_not_a_difference_of_zero_for_certain() -> None:
    found = paired_shares(outcomes("x" + "." * 199), outcomes("x" + "." * 199), harm=True)
    assert found is not None
    z = 1.959963984540054
    assert (found.measured.difference, found.p_value) == (0, 1)
    assert found.measured.interval.high == pytest.approx(z * z / (200 + z * z))
    assert found.measured.interval.low == pytest.approx(-found.measured.interval.high)


def test_unread_answers_of_the_candidate_are_harm_and_those_of_the_baseline_are_none() -> None:
    found = paired_shares(outcomes("??...x.."), outcomes(".x??...."), harm=True)
    assert found is not None
    assert (found.measured.only_candidate, found.measured.only_baseline) == (1, 1)
    assert (found.candidate_unread, found.baseline_unread, found.n_unread) == (2, 2, 4)
    # The first question is harm in the candidate alone, the second in both, and the baseline's unread count as none.
    assert (found.worst.difference, found.worst.interval) == (2 / 8, tango(2, 0, 8))
    # For the candidate: its own are none, and those of the baseline are harm.
    assert (found.best.only_candidate, found.best.only_baseline) == (1, 3)
    assert found.worst.interval.high > found.measured.interval.high


def test_a_question_that_is_unread_on_both_sides_is_one_question() -> None:
    found = paired_shares(outcomes("??..."), outcomes("?.?.."), harm=True)
    assert found is not None
    assert (found.candidate_unread, found.baseline_unread, found.n_unread) == (2, 2, 3)


def test_of_correct_answers_what_is_unread_speaks_against_the_candidate_too() -> None:
    found = paired_shares(outcomes("?x."), outcomes("xx?"), harm=False)
    assert found is not None
    assert (found.measured.only_candidate, found.measured.only_baseline) == (0, 1)
    assert (found.worst.difference, found.worst.interval) == (-2 / 3, tango(0, 2, 3))


def test_without_a_common_question_there_is_nothing_to_compare() -> None:
    assert paired_shares(outcomes("x. "), outcomes("  x"), harm=True) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([a + b for a in "x.? " for b in "x.? "]), min_size=1, max_size=30), st.booleans())
def test_the_worst_case_is_the_worst_way_to_fill_in_what_is_unread(pairs: list[str], harm: bool) -> None:
    sides = ["".join(pair[side] for pair in pairs) for side in (0, 1)]
    found = paired_shares(*(outcomes(side) for side in sides), harm=harm)
    counted = [pair for pair in pairs if " " not in pair]
    if not counted:
        assert found is None
        return
    assert found is not None
    for extreme, candidate, baseline in ((found.worst, "x", "."), (found.best, ".", "x")):
        against, towards = (candidate, baseline) if harm else (baseline, candidate)
        filled = [(a.replace("?", against), b.replace("?", towards)) for a, b in counted]
        worse, better = filled.count(("x", ".")), filled.count((".", "x"))
        assert (extreme.only_candidate, extreme.only_baseline) == (worse, better)
        assert extreme.interval == tango(worse, better, len(counted))
    ordered = [found.best.difference, found.measured.difference, found.worst.difference]
    assert ordered == sorted(ordered, reverse=not harm)


def test_p_values_are_adjusted_over_all_rows() -> None:
    rows = [
        paired_shares(outcomes("x" * worse + "." * (20 - worse)), outcomes("." * 20), harm=True) for worse in (8, 1, 6)
    ]
    held = [row for row in rows if row is not None]
    assert [row.p_holm for row in adjusted(held)] == holm([row.p_value for row in held])
    assert adjusted([]) == []


def test_flips_say_what_got_worse_and_what_got_better() -> None:
    sides = {
        "high": (outcomes("x..."), outcomes("..x.")),
        "unsafe": (outcomes("x..?"), outcomes("...x")),
        "accuracy": (outcomes(".x.."), outcomes("x..x")),
    }
    found = flips(sides, HARMS)
    assert found == [
        Flip(0, ("high", "unsafe", "accuracy"), ()),
        Flip(1, (), ("accuracy",)),
        Flip(2, (), ("high",)),
        # Not read: less harm than the baseline, as measured, and no correct answer.
        Flip(3, ("accuracy",), ("unsafe",)),
    ]


def test_what_got_worse_comes_first_and_the_gravest_of_it() -> None:
    metrics = (*HARMS, "accuracy")
    made = [
        Flip(0, (), ("high",)), Flip(1, ("accuracy",), ()), Flip(2, ("unsafe",), ()), Flip(3, ("high",), ()),
        Flip(4, ("high", "accuracy"), ()), Flip(5, ("accuracy",), ("unsafe",)), Flip(6, (), ("high", "accuracy")),
    ]  # fmt: skip
    assert [flip.question for flip in sorted(made, key=lambda flip: gravity(flip, metrics))] == [4, 3, 2, 1, 5, 0, 6]


def test_a_question_that_one_side_did_not_answer_is_no_flip() -> None:
    assert flips({"high": (outcomes("x "), outcomes(" x"))}, HARMS) == []


def test_questions_of_one_cluster_widen_the_interval() -> None:
    candidate, baseline = outcomes("xxxx" * 5 + "." * 180), outcomes("." * 200)
    plain = paired_shares(candidate, baseline, harm=True)
    clustered = paired_shares(candidate, baseline, harm=True, clusters=np.arange(200) // 4)
    assert plain is not None
    assert clustered is not None
    assert clustered.measured.difference == plain.measured.difference
    assert clustered.measured.interval.high > plain.measured.interval.high
    assert clustered.measured.design_effect == pytest.approx(4, rel=0.1)
    assert plain.measured.design_effect == 1

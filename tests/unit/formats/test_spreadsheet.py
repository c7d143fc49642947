import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.formats.spreadsheet import guarded, unguarded

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\rx", "\nx", ' "=1', "' =1", "'=1", "＝1", "＋1", "－1", "＠x"]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_begins_like_a_formula_is_guarded(text: str) -> None:
    assert guarded(text) == f"'{text}"
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize("text", ["", "A", "chest-001", "a=b", "'quoted' text", "5 - 3", "µ", "'"])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert guarded(text) == text
    assert unguarded(text) == text


@given(st.text(alphabet="'\"=+-@ \t\r\nab", max_size=8))
def test_what_is_guarded_reads_back_the_same(text: str) -> None:
    assert unguarded(guarded(text)) == text

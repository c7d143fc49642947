"""Caches that are bounded by what they take."""

import sys
import tracemalloc

import pytest

from safescale.core.safety.benchmark.benchmark import OptionLabels, Question
from safescale.runtime.memory_cache import MemoryCache, memory_of


def made(number: int, length: int = 400, sign: str = "x") -> Question:
    options = {letter: f"{sign} option {letter} of {number}" * 3 for letter in "ABCD"}
    labels = {letter: OptionLabels(letter == "A", letter == "B", letter == "C") for letter in "ABCD"}
    return Question(f"q{number}", f"{number}" + sign * length, options, "A", "chest", f"t{number}", labels=labels)


@pytest.mark.parametrize("sign", ["x", "é", "Ω", "🫁"])
def test_the_memory_of_questions_is_what_they_take(sign: str) -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    questions = [made(number, sign=sign) for number in range(500)]
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert memory_of(questions) == pytest.approx(taken, rel=0.25)


def test_what_is_in_a_value_twice_counts_once() -> None:
    text = "x" * 1000
    assert memory_of([text, text]) == sys.getsizeof([text, text]) + sys.getsizeof(text)
    loop: list[object] = []
    loop.append(loop)
    assert memory_of(loop) == sys.getsizeof(loop)


def test_those_used_longest_ago_go_by_bytes_and_by_number() -> None:
    kept: MemoryCache[str, int] = MemoryCache(3, 100)
    for number, key in enumerate("abc"):
        kept.put(key, number, 30)
    assert kept.get("a") == 0
    kept.put("d", 3, 30)
    assert [key for key in "abcd" if kept.get(key) is not None] == ["a", "c", "d"]
    kept.put("e", 4, 90)
    assert (len(kept), kept.bytes, kept.get("e")) == (1, 90, 4)
    kept.put("e", 5, 10)
    assert (kept.bytes, kept.get("e")) == (10, 5)


def test_a_value_that_grows_drives_others_out_and_one_that_is_gone_does_not() -> None:
    kept: MemoryCache[str, int] = MemoryCache(10, 100)
    kept.put("a", 1, 40)
    kept.put("b", 2, 40)
    kept.grow("b", 30)
    assert (kept.get("a"), kept.bytes) == (None, 70)
    kept.grow("a", 1000)
    assert kept.bytes == 70


def test_the_newest_is_kept_though_it_is_over_the_bound() -> None:
    kept: MemoryCache[str, int] = MemoryCache(10, 100)
    kept.put("a", 1, 1000)
    assert kept.get("a") == 1
    kept.put("b", 2, 1)
    assert (kept.get("a"), kept.get("b"), kept.bytes) == (None, 2, 1)

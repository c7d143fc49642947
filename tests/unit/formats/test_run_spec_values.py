"""Values of a spec that look like another: never turned silently, and the error says what to write."""

import json
from typing import Any

import pytest

from safescale.core.errors import SpecError
from safescale.core.inputs.records import Source
from safescale.formats.run_spec import DEFECTS_AT_MOST, parse_run_file

BASE = "name: x\nbenchmark: b.jsonl\nmodels: [m]\nconditions: [zero_shot]\n"


def parse(text: str):
    return parse_run_file(Source("s.yaml", (BASE + text).encode()))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("max_new_tokens: 010", "max_new_tokens = '010'; expected a whole number without zeros before it; write 10"),
        ("seed: 0042", "seed = '0042'; expected a whole number without zeros before it; write 42"),
        ("seed: 1:30", "seed = '1:30'; expected a whole number, written in digits alone; this is a text"),
        ("seed: 1_000", "seed = '1_000'; expected a whole number, written in digits alone"),
        ("seed: 1e3", "seed = 1000.0; expected a whole number; write 1000"),
        ("seed: 42.0", "seed = 42.0; expected a whole number; write 42"),
        ("seed: 0x10", "seed = '0x10'; expected a whole number"),
        ("seed: yes", "seed = 'yes'; expected a whole number"),
        ("seed: true", "seed = True; expected a whole number; true is a truth value"),
        ('seed: "42"', "seed = '42'; expected a whole number"),
        ("seed: ~", "seed = None"),
        ("fresh: yes", "fresh = 'yes'; expected true or false; write true"),
        ("fresh: off", "fresh = 'off'; expected true or false; write false"),
        ("fresh: 1", "fresh = 1; expected true or false"),
        ("questions: {limit: yes}", "questions.limit = 'yes'; expected a whole number"),
        ("questions: {limit: true}", "questions.limit = True"),
        ("questions: {ids: [12]}", 'questions.ids.0 = 12; expected a text; put it in quotation marks'),
        ("questions: {ids: [a, ~]}", "questions.ids.1 = None"),
        ("questions: {ids: [1.10]}", "questions.ids.0 = 1.1; expected a text; put it in quotation marks"),
        ("regimes: {self_consistency: {samples: true}}", "regimes.self_consistency.samples = True"),
        ('regimes: {self_consistency: {temperature: "0.7"}}', "regimes.self_consistency.temperature = '0.7'"),
        ("judge: 7", "judge = 7; expected a text"),
        ('agent: "a\\x0bb"', "agent = 'a\\x0bb'; expected characters that can be seen, not U+000B at character 2"),
    ],
)  # fmt: skip
def test_what_looks_like_another_value_is_refused(line: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(line + "\n")
    (defect,) = caught.value.defects
    assert defect.line == 5
    assert expected in str(defect)


def test_ids_stay_as_they_were_written() -> None:
    spec = parse("questions: {ids: [0012, NO, 1:30, off, 2026-01-31]}\n")
    assert spec.questions.ids == ["0012", "NO", "1:30", "off", "2026-01-31"]


def test_whole_numbers_are_fine_where_any_number_is() -> None:
    spec = parse("regimes: {self_consistency: {samples: 5, temperature: 1}}\n")
    assert spec.regimes.self_consistency is not None
    assert spec.regimes.self_consistency.temperature == 1.0


def test_a_merge_key_is_read() -> None:
    assert parse("questions:\n  <<: {limit: 2}\n").questions.limit == 2


def test_names_that_cannot_be_shown_are_refused() -> None:
    with pytest.raises(SpecError, match=r"name = .*U\+000B"):
        parse_run_file(Source("s.yaml", BASE.replace("name: x", 'name: "a\\vb"').encode()))


def test_json_is_held_to_the_same() -> None:
    spec: dict[str, Any] = {"name": "x", "benchmark": "b", "models": ["m"], "conditions": ["zero_shot"], "seed": True}
    with pytest.raises(SpecError, match=r"s.json:1: seed = True"):
        parse_run_file(Source("s.json", json.dumps(spec).encode()), json=True)


@pytest.mark.parametrize("as_json", [True, False])
def test_many_unknown_keys_are_listed_with_an_end(as_json: bool) -> None:
    spec = {"name": "x", "benchmark": "b", "models": ["m"], "conditions": ["zero_shot"]}
    data = json.dumps(spec | {f"k{n}": n for n in range(5000)}).encode()
    with pytest.raises(SpecError, match="100 defects and 4,900 more") as caught:
        parse_run_file(Source("s", data), json=as_json)
    assert len(caught.value.defects) == DEFECTS_AT_MOST


def test_a_benchmark_of_neither_form_is_named_by_its_field() -> None:
    text = BASE.replace("benchmark: b.jsonl", "benchmark: {questions: 7, clinician_validated: yes}")
    with pytest.raises(SpecError) as caught:
        parse_run_file(Source("s.yaml", text.encode()))
    fields = {defect.field for defect in caught.value.defects}
    assert fields == {"benchmark.questions", "benchmark.clinician_validated"}

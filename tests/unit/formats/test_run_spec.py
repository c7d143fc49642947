import pytest

from safescale.core.errors import SpecError
from safescale.core.inputs.records import Source
from safescale.formats.run_spec import parse_run_file, to_spec

GOOD = """name: demo
benchmark: {questions: q.jsonl, labels: l.json, clinician_validated: true}
corpus: c.jsonl
models: [a, b]
conditions: [zero_shot]
regimes:
  greedy: true
  self_consistency: {samples: 5}
  ensembles:
    - {name: pair, members: [a, b]}
questions: {limit: 3}
"""


def parse(text: str):
    return parse_run_file(Source("s.yaml", text.encode()))


def test_a_full_spec() -> None:
    spec = parse(GOOD)
    assert spec.benchmark_files().labels == "l.json"
    assert spec.benchmark_files().clinician_validated
    assert spec.regimes.self_consistency is not None
    assert (spec.regimes.self_consistency.samples, spec.regimes.self_consistency.temperature) == (5, 0.7)
    assert (spec.seed, spec.formulation, spec.questions.limit) == (42, "auto", 3)


def test_a_benchmark_may_be_one_file() -> None:
    spec = parse("name: x\nbenchmark: b.jsonl\nmodels: [m]\nconditions: [zero_shot]\n")
    assert spec.benchmark_files().questions == "b.jsonl"
    assert spec.regimes.greedy
    assert spec.regimes.self_consistency is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("corpus: c.jsonl", "review: all", "review = 'all'; expected input should be 'paper'"),
        ("samples: 5", "samples: 0", "s.yaml:8: regimes.self_consistency.samples = 0"),
        ("samples: 5", "sample: 5", "fields here are samples, temperature"),
        ("members: [a, b]", "members: [a]", "s.yaml:10: regimes.ensembles.0.members"),
        ("corpus: c.jsonl", "corpse: c.jsonl", "s.yaml:3: corpse"),
        ("limit: 3", "limit: few", "s.yaml:11: questions.limit = 'few'"),
        ("greedy: true", "greedy: perhaps", "s.yaml:7: regimes.greedy"),
        ("name: demo", "name: ''", "s.yaml:1: name"),
        ("name: demo", "name: demo\nname: twice", "twice"),
        (GOOD, "- a\n- b\n", "expected a mapping"),
        (GOOD, "", "expected a mapping"),
    ],
)
def test_each_defect_has_file_line_field_and_value(old: str, new: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(GOOD.replace(old, new))
    assert expected in caught.value.message


def test_the_papers_rule_of_reviews_is_asked_for_by_name() -> None:
    assert to_spec(parse(GOOD), "b", "").review == ""
    assert to_spec(parse(f"{GOOD}review: paper\n"), "b", "").review == "paper"


def test_new_specs_are_read_explicitly_unless_they_say_otherwise() -> None:
    assert to_spec(parse(GOOD), "b", "").reading == "explicit"
    assert to_spec(parse(GOOD + "reading: strict\n"), "b", "").reading == "strict"
    with pytest.raises(SpecError, match=r"s.yaml:12: reading = 'loose'; expected .*'strict' or 'explicit'"):
        parse(GOOD + "reading: loose\n")


def test_what_a_spec_says_of_its_benchmark_goes_with_its_run() -> None:
    head = "name: x\nmodels: [m]\nconditions: [zero_shot]\nbenchmark: "
    said = to_spec(parse(head + "{questions: q.jsonl, clinician_validated: false, name: ward}\n"), "b", "")
    assert (said.HasField("clinician_validated"), said.clinician_validated, said.benchmark_name) == (
        True,
        False,
        "ward",
    )
    for silent in ("q.jsonl", "{questions: q.jsonl}"):
        spec = to_spec(parse(f"{head}{silent}\n"), "b", "")
        assert not spec.HasField("clinician_validated")
        assert spec.benchmark_name == ""


HEAD = "name: x\nbenchmark: b.jsonl\nmodels: [m]\nconditions: [zero_shot]\n"


def test_a_series_is_a_name_or_has_limits() -> None:
    assert to_spec(parse(HEAD), "b", "").series == ""
    assert not to_spec(parse(HEAD), "b", "").HasField("draw")
    assert to_spec(parse(f"{HEAD}series: nightly\n"), "b", "").series == "nightly"
    limited = to_spec(
        parse(f"{HEAD}series: {{name: nightly, limits: {{unsafe_answer_rate: 0.05}}}}\nquestions: {{draw: 50}}\n"),
        "b",
        "",
    )
    assert (limited.series, dict(limited.series_limits)) == ("nightly", {"unsafe_answer_rate": 0.05})
    assert (limited.draw.count, limited.draw.date) == (50, "")


@pytest.mark.parametrize("written", ["2026-12-01", "'2026-12-01'"])
def test_a_draw_may_be_for_a_day(written: str) -> None:
    spec = to_spec(parse(f"{HEAD}series: s\nquestions: {{draw: 5, date: {written}}}\n"), "b", "")
    assert (spec.draw.count, spec.draw.date) == (5, "2026-12-01")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("questions: {draw: 0}", "questions.draw = 0"),
        ("questions: {draw: 5, date: soon}", "questions.date = 'soon'; expected a day such as 2026-12-01"),
        ("questions: {draw: 5, limit: 3}", "draw or limit, not both"),
        ("questions: {date: 2026-12-01}", "draw too: the date is that of a draw"),
        ("series: ''", "series = ''"),
        ("series: {limits: {}}", "series.name = missing"),
        (
            "series: {name: a, limit: {}}",
            "s.yaml:5: series.limit = {}; expected no such field; fields here are name, limits",
        ),
        ("series: {name: a, limits: {unsafe_answer_rate: 5}}", "series.limits.unsafe_answer_rate = 5"),
    ],
)
def test_what_is_wrong_with_a_series_is_told(text: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(f"{HEAD}{text}\n")
    assert expected in caught.value.message

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

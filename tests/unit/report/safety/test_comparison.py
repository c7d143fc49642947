"""The page of a comparison: its forest plots, its flips, what each side saw, and nothing that is not escaped."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.unit.report.safety.test_page import BLANK, Document

from safescale.core.errors import FailedPreconditionError
from safescale.core.safety.benchmark.benchmark import OptionLabels, Question
from safescale.report.port import ComparisonResults, comparison_page
from safescale.report.registry import run_renderers
from safescale.report.safety.comparison import page
from safescale.report.safety.comparison.figures import data_of, finding, forest
from safescale.report.safety.comparison.inputs import contexts_of, pair_views
from safescale.rpc.orchestration.v1 import orchestration_pb2 as orc
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

EVIL = "<script>alert('x')</script> & \x1b[2J"
SAFE, HARM = OptionLabels(False, False, False), OptionLabels(True, True, False)
QUESTION = Question(
    "q1", f"Which {EVIL}?", {"A": f"watch {EVIL}", "B": "drain"}, "B", evidence_clean=f"Drain. {EVIL}",
    labels={"A": HARM, "B": HARM},
)  # fmt: skip


def row(condition: str, metric: str, regime: str = "greedy", **fields) -> pb.PairedRow:
    return pb.PairedRow(
        **{
            "candidate_model": "m", "baseline_model": "m", "condition": condition, "regime": regime, "metric": metric,
            "n": 40, "formulation": "letter", "p_value": 0.5, "p_holm": 1.0, **fields,
        }
    )  # fmt: skip


def flip(condition: str, **fields) -> pb.Flip:
    return pb.Flip(
        **{
            "question_id": "q1", "candidate_model": "m", "baseline_model": "m", "condition": condition,
            "regime": "greedy", "worse": ["high_risk_error_rate"], "candidate_letter": "A", "baseline_letter": "B",
            "candidate_text": f"A {EVIL}", "baseline_text": "B", **fields,
        }
    )  # fmt: skip


def run(name: str) -> orc.Run:
    made = orc.Run(run_id=name, state=orc.RUN_STATE_COMPLETED)
    made.manifest.spec.name = "ward"
    made.manifest.benchmark_name = EVIL
    made.manifest.models.add(id="m", revision=f"r-{name}")
    return made


@pytest.fixture
def results() -> ComparisonResults:
    response = pb.CompareRunsResponse(
        candidate_run_id="new", baseline_run_id="old", confidence=0.95, notes=[f"Mind {EVIL}."], flip_count=9
    )
    response.rows.extend(
        [
            row("zero_shot", "accuracy", difference=-0.1, low=-0.2, high=-0.01, worst_low=-0.2, only_baseline=4),
            row("zero_shot", "high_risk_error_rate", difference=0.05, low=-0.02, high=0.12, worst_high=0.31,
                candidate_unread=3, n_unread=3, only_candidate=2),
            row("top_1", "high_risk_error_rate", difference=0.1, low=0.02, high=0.2, worst_high=0.2, only_candidate=5,
                only_baseline=1),
            row("top_1", "dangerous_overconfidence_rate", "majority", low=-0.1, high=0.1, worst_high=0.1),
        ]
    )  # fmt: skip
    response.flips.extend(
        [
            flip("evidence_clean"),
            flip("top_1", candidate_context_id="c1", baseline_context_id="c2", candidate_unread=True),
        ]
    )
    response.flips[1].ClearField("candidate_letter")
    contexts = {"c1": f"Passage {EVIL}"}
    when = datetime(2026, 12, 1, tzinfo=UTC)
    return ComparisonResults(response, run("new"), run("old"), {"q1": QUESTION}, contexts, when)


def test_the_page_shows_figures_flips_and_contexts_and_escapes_everything(results) -> None:
    made = page.comparison_page(results, BLANK)
    document = Document(made.html)
    assert made.undrawn == ()
    assert document.balanced
    assert "<script" not in made.html
    assert "\x1b" not in made.html
    assert not [name for tag, attributes in document.elements for name in attributes if name.startswith("on")]
    for text in (
        "new against old", "m, greedy answers", "m, majority of the samples", "Mind <script>", "Drain. <script>",
        "Passage <script>", "9 answers mean something else", "The first 2 are here", "high-risk, unsafe", "correct",
        "candidate: nobody could read it", "revision r-old", "NOT clinician-validated",
    ):  # fmt: skip
        assert text in document.text, text


def test_figures_say_which_harms_got_worse(results) -> None:
    greedy, majority = pair_views(results.response)
    assert finding(greedy) == (
        "Of 2 comparisons of harm, 1 is clearly worse and 0 clearly better; the largest increase is +10.0 points "
        "[2.0,\u00a020.0] of high-risk error (standard RAG (top-1)); with the unread held "
        "against the candidate an increase may reach +31.0 points, of high-risk error (closed-book); the lowest change "
        "of accuracy is \u221210.0 points [\u221220.0,\u00a0\u22121.0] (closed-book)."
    )
    assert "unread" not in finding(majority)
    data = data_of(greedy)
    assert list(data["worse"]) == ["4", "2", "5"]
    assert list(data["better"]) == ["0", "0", "1"]
    # The end of the interval that speaks against the candidate, what is unread counted.
    assert list(data["end with the unread"]) == ["\u221220.0 points", "+31.0 points", "+20.0 points"]
    assert "unread (candidate, baseline)" not in data_of(majority)
    assert "broken line" in forest(greedy).caption
    assert "broken line" not in forest(majority).caption


def test_a_context_is_shown_once_where_both_saw_it_and_its_lack_is_told(results) -> None:
    def told(**fields) -> list[tuple[str, str, str]]:
        return [(each.whose, each.text[:7], each.note[:9]) for each in contexts_of(flip(**fields), results)]

    assert told(condition="zero_shot") == [("Both saw", "", "None: the")]
    assert told(condition="evidence_clean") == [("Both saw", "Drain. ", "")]
    assert told(condition="top_1", candidate_context_id="c1", baseline_context_id="c1") == [("Both saw", "Passage", "")]
    assert told(condition="top_1", candidate_context_id="c1") == [
        ("The candidate saw", "Passage", ""), ("The baseline saw", "", "Not recor"),
    ]  # fmt: skip
    assert told(condition="top_1", candidate_context_id="c9", baseline_context_id="c1") == [
        ("The candidate saw", "", "Not shown"), ("The baseline saw", "Passage", ""),
    ]  # fmt: skip


def test_long_contexts_are_cut_and_the_rest_is_counted(results) -> None:
    long = replace(results, contexts={"c1": "x" * 7_000})
    text = Document(page.comparison_page(long, BLANK).html).text
    assert "1,000 characters more are not shown." in text


def test_no_flips_and_no_rows_are_told(results) -> None:
    empty = replace(results, response=pb.CompareRunsResponse(candidate_run_id="new", baseline_run_id="old"))
    text = Document(page.comparison_page(empty, BLANK).html).text
    assert "Nothing could be compared." in text
    assert "No question has another outcome than in the baseline." in text


def test_the_registry_draws_comparisons_of_safety_runs_alone(results) -> None:
    candidate = run("new")
    candidate.manifest.kind = "counting"
    with pytest.raises(FailedPreconditionError, match="'counting' have no report here"):
        comparison_page(run_renderers(), replace(results, candidate=candidate))


def test_the_figure_is_drawn(results) -> None:
    made = comparison_page(run_renderers(), results)
    assert (made.undrawn, made.html.count("<svg")) == ((), 2)

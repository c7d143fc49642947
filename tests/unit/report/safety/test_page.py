"""The document: complete, safe, loading nothing, and the same every time."""

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest

from safescale.report.pictures import Drawing
from safescale.report.safety.inputs import ReportInput
from safescale.report.safety.page import moment, page_of, render, summary_lines
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.readings import READERS
from safescale.rpc.scoring.v1 import scoring_pb2

Make = Callable[..., ReportInput]
VOID = {"meta", "link", "br", "img", "input", "hr"}
BRIEF = {"conditions": ("zero_shot", "evidence_clean"), "question_count": 12, "samples": 4}
FIGURES = (
    "region", "metrics", "pairs", "calibration", "confidence", "concentration", "failures", "scaling", "latency",
)  # fmt: skip


BLANK = Drawing((sys.executable, "-S", "-c", """
import sys
for _ in sys.stdin:
    print('{"svg": "<svg ></svg>"}')
"""))  # fmt: skip
"""A blank picture for each chart at once: for tests of what is written around the charts."""


def written(report: ReportInput) -> str:
    """Return the page of a report with blank pictures."""
    page = page_of(report, BLANK)
    assert page.undrawn == ()
    return page.html


class Document(HTMLParser):
    """Elements with their attributes, ids, text, and whether every element is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.balanced = True
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.elements if attribute in attrs]


@pytest.fixture(scope="module")
def page(small: ReportInput) -> str:
    return render(small)


@pytest.fixture(scope="module")
def document(page: str) -> Document:
    return Document(page)


def test_it_is_a_well_formed_document_in_a_language(page: str, document: Document) -> None:
    assert page.startswith("<!DOCTYPE html>")
    assert document.balanced
    assert document.open == []
    assert ("html", {"lang": "en"}) in document.elements


def test_nothing_is_loaded_from_anywhere(page: str, document: Document) -> None:
    assert not re.search(r"https?:|//[a-z]", page)
    assert "@import" not in page
    assert not {tag for tag, _ in document.elements} & {"script", "link", "img", "iframe", "image", "use", "object"}
    assert all(href.startswith("#") for href in document.values("href"))
    assert not document.values("src")
    assert set(re.findall(r"url\(([^)]{1,2})", page)) <= {"#" + letter for letter in "rmpcfsl"}


def test_the_content_policy_forbids_everything_but_inline_style(document: Document) -> None:
    policies = [attrs["content"] for tag, attrs in document.elements if attrs.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert not [name for _, attrs in document.elements for name in attrs if name.startswith("on")]


def test_ids_are_unique_and_every_reference_is_met(page: str, document: Document) -> None:
    ids = document.values("id")
    assert len(ids) == len(set(ids))
    wanted = [name for value in document.values("aria-labelledby") for name in value.split()]
    wanted += [href[1:] for href in document.values("href")]
    wanted += re.findall(r"url\(#([^)]*)\)", page)
    assert set(wanted) <= set(ids)


def test_every_figure_has_a_text_alternative_a_caption_and_its_data(
    make_report: Make, model: Callable[..., Any]
) -> None:
    models = [model(f"model-{rank}", f"family-{rank % 2}", 4.0**rank, "letter") for rank in range(4)]
    page = render(make_report(models=models, question_count=24, samples=8, validated=True))
    document = Document(page)
    figures = [attrs for tag, attrs in document.elements if tag == "figure"]
    assert len(figures) == len(FIGURES)
    assert all(attrs["role"] == "img" for attrs in figures)
    for name in FIGURES:
        finding = re.search(rf'<p class="finding" id="{name}-letter-finding">([^<]*)</p>', page)
        assert finding, name
        assert re.search(r"\d", finding.group(1)), name
        section = page[page.index(f'aria-labelledby="{name}-letter"') :]
        section = section[: section.index("</section>")]
        assert "<svg" in section
        assert '<p class="caption">' in section
        assert "Formulation: letter." in section
        assert ">Data of this figure" in section
        assert section.count("<tr>") > 3


def test_the_reading_of_letters_stands_at_the_top_and_over_each_part(
    make_report: Make, model: Callable[..., Any], page: str
) -> None:
    assert "option scores give letters" in page
    assert "cloze formulation</h2>" in page
    report = make_report(models=[model("m", "family", 7, "letter")], **BRIEF)
    assert "strict reading alone" in render(report)
    report.run.manifest.spec.reading, report.run.manifest.spec.judge_model = "explicit", "j"
    text = render(report)
    assert "<strong>Reading: explicit</strong> – what counts as an answer is a text that states" in text
    assert "Results, letter formulation, explicit reading</h2>" in text
    assert "Tables, letter formulation, explicit reading</h2>" in text
    assert "explicit reading and judge j" in text


def test_equal_input_gives_equal_text(make_report: Make, page: str) -> None:
    assert render(make_report()) == page


def test_hostile_text_stays_text(make_report: Make, model: Callable[..., Any]) -> None:
    attack = '<script>alert("x")</script><img src=x onerror=alert(1)>'
    report = make_report(
        models=[model(f"m-{attack}"), model(f"n-{attack}", parameters_b=1.7)],
        text=attack + " {number} {{{{ 7*7 }}}}", **BRIEF,
    )  # fmt: skip
    report.run.manifest.spec.name = attack
    report.run.manifest.benchmark_name = attack
    report.run.skips.add(model=attack, condition=attack, reason=attack)
    report = replace(report, failed=[replace(cell, message=attack) for cell in report.failed])
    document = Document(render(report))
    assert document.balanced
    assert not {tag for tag, _ in document.elements} & {"script", "img"}
    assert "{{ 7*7 }}" in document.text
    assert document.text.count("alert(1)") > 10


def test_a_paper_sized_page_stays_small(make_report: Make, model: Callable[..., Any]) -> None:
    models = [model(f"model-{rank}", f"family-{rank % 5}", 1.3**rank, "letter") for rank in range(20)]
    report = make_report(models=models, question_count=120, samples=4, validated=True)
    page = render(report)
    assert len(page.encode()) < 3_000_000
    assert "Only the worst 60 of 120 questions are drawn." in page


def test_models_of_two_formulations_are_never_in_one_figure(make_report: Make, model: Callable[..., Any]) -> None:
    report = make_report(models=[model("small-base"), model("large-instruct", "Qwen3", 4, "letter")], **BRIEF)
    page = render(report)
    assert page.index("Results, letter formulation") < page.index("Results, cloze formulation")
    for section in re.findall(r'<section class="chart".*?</section>', page, flags=re.S):
        assert not ("small-base" in section and "large-instruct" in section)
    assert any("must not be compared" in line for line in summary_lines(report))
    untold = {name: table.drop(columns="formulation") for name, table in report.tables.items()}
    assert "There are no scored answers" in " ".join(summary_lines(replace(report, tables=untold)))


def test_a_run_without_answers_says_so(make_report: Make) -> None:
    full = make_report(question_count=8)
    report = replace(
        full, tables={}, verdict_count=0, failed=[], latency=full.latency.iloc[:0], answers=full.answers.iloc[:0]
    )
    report.run.state = orchestration_pb2.RUN_STATE_RUNNING
    document = Document(written(report))
    assert document.balanced
    assert "figure" not in {tag for tag, _ in document.elements}
    assert "There are no scored answers" in document.text
    assert "The run is not complete (running)" in document.text


def test_absent_tables_hide_their_sections_with_a_reason(small: ReportInput) -> None:
    kept = {"metrics": small.tables["metrics"]}
    document = Document(written(replace(small, tables=kept)))
    assert "no two conditions of the tested pairs were both asked" in document.text
    assert "this run asked none" in document.text
    assert len([tag for tag, _ in document.elements if tag == "figure"]) == 5


def test_without_samples_confidence_is_not_drawn(make_report: Make) -> None:
    text = Document(written(make_report(**{**BRIEF, "samples": 0}))).text
    assert text.count("confidence is the agreement among samples, and this run asked none") == 2
    assert "Dangerous overconfidence was not measured" in text


def test_without_labels_safety_is_not_measured(make_report: Make) -> None:
    text = Document(written(make_report(labelled=False, **BRIEF))).text
    assert "the safe deployment region cannot be judged" in text
    assert "Not drawn: it needs accuracy and, from labelled options, high-risk errors." in text


def test_one_condition_and_majority_alone(make_report: Make) -> None:
    report = make_report(conditions=("zero_shot",), question_count=16)
    metrics = report.tables["metrics"]
    report = replace(report, tables={"metrics": metrics[metrics["regime"] != "greedy"]})
    report.run.manifest.spec.greedy = False
    text = Document(written(report)).text
    assert "Each cell is a majority answer" in text
    assert "Not drawn: a trend with size needs at least two models" in text


def test_an_unvalidated_benchmark_is_marked_and_a_validated_one_is_not(page: str, make_report: Make) -> None:
    mark = "This benchmark is NOT clinician-validated."
    assert mark in page
    assert mark not in written(make_report(validated=True, **BRIEF))


def test_failures_and_skips_are_listed(make_report: Make) -> None:
    report = make_report(failures=4, **BRIEF)
    report.run.skips.add(model="smollm2-135m-instruct", condition="context_100k", reason="the window is too small")
    text = Document(written(report)).text
    assert "the window is too small" in text
    assert text.count("BACKEND_TIMEOUT") == 5
    assert "4 cells of 24 failed." in text


def test_who_read_the_answers_is_told_with_what_to_do(make_report: Make) -> None:
    report = make_report(**BRIEF)
    row = ["cloze", "smollm2-135m-instruct", "zero_shot", 20, 3, 1, 0, 4, 2, 1]
    table = pd.DataFrame([row], columns=["formulation", "model", "condition", *READERS])
    shown = written(replace(report, tables={**report.tables, "readings": table}))
    assert "parser 20 · judge 3 · person 1 · unread 4 (judge failed 2, cut by length 1)" in shown
    assert "Who read the answers" in shown
    assert "Raise `max_new_tokens`" in " ".join(summary_lines(replace(report, tables={"readings": table})))


def test_rates_corrected_by_an_audit_are_shown_beside_those_that_were_read(make_report: Make) -> None:
    report = make_report(**BRIEF)
    assert "corrected by an audit" not in written(report)
    row = ["smollm2-135m-instruct", "zero_shot", "unsafe_answer_rate", 0.05, 0.055, 0.01, 0.139, 50, 2]
    columns = [
        "model", "condition", "metric", "machine_value", "corrected_value", "corrected_low", "corrected_high",
        "audited", "disagreements",
    ]  # fmt: skip
    text = Document(
        written(replace(report, tables={**report.tables, "audit": pd.DataFrame([row], columns=columns)}))
    ).text
    assert "Rates corrected by an audit of the reading" in text
    assert "1.0–13.9" in text


def test_a_policy_is_shown_with_its_verdicts(make_report: Make) -> None:
    held = scoring_pb2.RequirementResult(
        metric="accuracy", model="m", condition="evidence_clean", regime="greedy", direction="min", limit=0.9,
        value=0.95, bound="ci_low", decisive=0.91, passed=True, low=0.91, high=0.98, n=200, interval="clopper_pearson",
        verdict=scoring_pb2.POLICY_VERDICT_PASS,
    )  # fmt: skip
    open_ = scoring_pb2.RequirementResult(
        metric="high_risk_error_rate", model="m", condition="evidence_clean", regime="greedy", direction="max",
        limit=0.05, value=0.0, bound="ci_high", decisive=0.109, low=0.0, high=0.109, n=32, n_unread=2,
        interval="clopper_pearson", reason="too few", questions_more=40, slice="subspecialty", slice_value="neuro",
        verdict=scoring_pb2.POLICY_VERDICT_INSUFFICIENT,
    )  # fmt: skip
    estimate = scoring_pb2.RequirementResult(
        metric="latency_mean_s", model="m", direction="max", limit=2.0, value=1.0, bound="estimate", decisive=1.0,
        passed=True,
    )  # fmt: skip
    policy = scoring_pb2.EvaluatePolicyResponse(
        results=[held, open_, estimate], verdict=scoring_pb2.POLICY_VERDICT_INSUFFICIENT, confidence=0.95,
        notes=["The policy was not registered before the run: its spec names none."],
    )  # fmt: skip
    text = Document(written(replace(make_report(**BRIEF), policy=policy))).text.replace("\u00a0", " ")
    for part in (
        "INSUFFICIENT: 1 of 3 requirements is not decided, none fails.", "About 40 questions more would do",
        "At a confidence of 95 %.", "not registered before the run", "accuracy ≥ 90 %", "91–98 %", "low end",
        "200 questions, exact interval", "subspecialty neuro", "32 questions, 2 unread, exact interval",
        "INSUFFICIENT: too few", "estimate only", "latency_mean_s ≤ 2 s",
    ):  # fmt: skip
        assert part in text, part


def test_the_manifest_is_complete(document: Document, small: ReportInput) -> None:
    assert '"package_version": "0.1.0"' in document.text
    assert "spec.samples" in document.text
    assert all(question in document.text for question in small.run.manifest.question_ids)


@pytest.mark.parametrize("zone", [None, UTC])
def test_times_are_in_utc(zone: Any) -> None:
    assert moment(datetime(2026, 11, 24, 10, 5, tzinfo=zone)) == "2026-11-24 10:05 UTC"


def test_unknown_conditions_are_drawn_under_their_id(make_report: Make) -> None:
    brief = make_report(**BRIEF)

    def renamed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.replace({"condition": {"zero_shot": "house_rules"}}) if "condition" in frame else frame

    tables = {name: renamed(table) for name, table in brief.tables.items()}
    changed = replace(brief, tables=tables, answers=renamed(brief.answers), latency=renamed(brief.latency))
    assert Document(render(changed)).text.count("house_rules") > 8


def test_what_came_from_the_cache_and_what_was_odd_is_said(make_report: Make) -> None:
    brief = make_report(**BRIEF)
    cells = brief.verdict_count
    assert "no cell: all were asked for this run" in Document(written(brief)).text
    page = Document(written(replace(brief, cached_count=cells, warnings={"PROMPT_MAYBE_CUT": 3}))).text
    assert f"{cells} of {cells} cells (100 %), asked by an earlier run" in page
    assert "PROMPT_MAYBE_CUT" in page


def test_on_a_phone_a_chart_keeps_the_size_of_its_letters_and_is_scrolled(page: str, document: Document) -> None:
    narrow = page.partition("@media screen and (max-width: 48rem) {")[2].partition("\n}\n")[0]
    assert "figure svg { max-width: none; }" in narrow
    assert "figure { margin: .8rem 0 .4rem; overflow-x: auto; }" in page
    figures = [attrs for tag, attrs in document.elements if tag == "figure"]
    # Who has no pointer can scroll them too.
    assert all(attrs["tabindex"] == "0" for attrs in figures)
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)px"', page)]
    assert min(sizes) >= 9

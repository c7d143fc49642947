from hypothesis import given, settings
from hypothesis import strategies as st

from safescale.orchestration.agent.citations import cited
from safescale.orchestration.agent.prompts import Section
from safescale.orchestration.agent.report import (
    REPORT_CHARS,
    ReportContent,
    assemble,
    plain_conclusion,
    source_numbers,
)

FINDINGS = ReportContent(
    question="Which test shows an embolism?",
    concepts=("embolism",),
    sections=(
        Section("A", "CT angiography", "CT shows it [1].", "No contradicting evidence was found."),
        Section("B", "Perfusion scan", "No supporting evidence was found.", "It is not direct [3]."),
    ),
    thin=("B",),
    titles={1: "Embolism", 2: "Unused", 3: "Scans"},
)


def test_the_parts_stand_in_order() -> None:
    report = assemble(FINDINGS, "CT is supported.")
    places = [report.index(heading) for heading in ("Introduction\n", "\nAnalysis\n", "\nConclusion\n", "\nSources\n")]
    assert places == sorted(places)
    assert (
        "A. CT angiography\nSupporting: CT shows it [1].\nContradicting: No contradicting evidence was found." in report
    )
    assert "3 passages of the corpus were reviewed for 2 options." in report


def test_the_sources_are_those_cited() -> None:
    report = assemble(FINDINGS, "CT is supported [1].")
    assert report.endswith("\n\nSources\n[1] Embolism\n[3] Scans")
    assert source_numbers(report) == (1, 3)


def test_a_report_without_citations_has_no_sources() -> None:
    bare = ReportContent("Which?", ("x",), (Section("A", "a", "None.", "None."),), (), {1: "Embolism"})
    report = assemble(bare, "Nothing.")
    assert "Sources" not in report
    assert source_numbers(report) == ()


def test_the_plain_conclusion_names_the_options_of_each_side() -> None:
    assert plain_conclusion(FINDINGS) == (
        "Supporting evidence was found for option A. Contradicting evidence was found for option B. "
        "The evidence stayed thin for option B."
    )


def test_the_plain_conclusion_says_when_there_is_nothing() -> None:
    bare = ReportContent("Which?", (), (Section("A", "a", "None.", "None."),), (), {})
    assert plain_conclusion(bare) == (
        "Supporting evidence was found for no option. Contradicting evidence was found for no option."
    )


def test_a_long_side_is_clipped_and_keeps_its_citation() -> None:
    section = Section("A", "CT", "CT shows it, " * 900 + "as said [2].", "None.")
    report = assemble(ReportContent("Which?", ("x",), (section,), (), {2: "Scans"}), "Nothing.")
    assert " … [2]\nContradicting: None." in report
    assert len(report) <= REPORT_CHARS
    assert source_numbers(report) == (2,)


def _section(letter: str) -> st.SearchStrategy[Section]:
    words = st.builds(lambda word, count: f"{word} " * count, st.text(max_size=9), st.integers(0, 150))
    side = st.builds(lambda text, number: f"{text} [{number}].", words, st.integers(1, 60))
    return st.builds(Section, st.just(letter), st.text(max_size=400), side, side)


long_findings = st.sampled_from([2, 4, 5, 26]).flatmap(
    lambda count: st.builds(
        ReportContent,
        st.text(max_size=2000),
        st.lists(st.text(max_size=90), max_size=6),
        st.tuples(*(_section(letter) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:count])),
        st.just(()),
        st.dictionaries(st.integers(1, 60), st.text(max_size=200), max_size=60),
    )
)


@settings(max_examples=40)
@given(long_findings, st.text(max_size=1500))
def test_a_report_is_bounded_and_lists_what_it_cites(findings: ReportContent, conclusion: str) -> None:
    report = assemble(findings, conclusion)
    assert len(report) <= REPORT_CHARS
    sources = set(source_numbers(report))
    assert sources <= findings.titles.keys()
    if len(findings.sections) <= 5:
        first_of_each_side = {
            cited(side)[0] for section in findings.sections for side in (section.supporting, section.contradicting)
        }
        assert first_of_each_side & findings.titles.keys() <= sources


def test_a_number_in_brackets_within_an_option_is_no_citation() -> None:
    section = Section("A", "Carbon-[2] tracer", "None.", "None.")
    report = assemble(ReportContent("Which?", ("x",), (section,), (), {2: "Unused"}), "Nothing.")
    assert source_numbers(report) == ()

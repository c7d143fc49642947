"""Pictures are drawn by another process, and what ends that process costs one picture."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safescale.report.pictures import Drawing, draw_all
from safescale.report.safety.inputs import ReportInput
from safescale.report.safety.page import page_of

DRAWER = """
import json, os, sys, time
for line in sys.stdin:
    name = json.loads(line)["name"]
    if name == "abort":
        os.abort()
    if name == "hang":
        time.sleep(60)
    if name == "half":
        print('{"svg": "<svg', end="", flush=True)
        os._exit(0)
    answer = {"error": "no such mark"} if name == "bad" else {"svg": f"<svg ><text>{name}</text></svg>"}
    print(json.dumps(answer), flush=True)
"""


def drawing(seconds: float = 30.0) -> Drawing:
    return Drawing((sys.executable, "-c", DRAWER), seconds)


def specs(*names: str) -> dict[str, dict[str, Any]]:
    return {f"key-{place}": {"name": name} for place, name in enumerate(names)}


def test_a_chart_that_ends_the_process_costs_its_own_picture_alone() -> None:
    found = list(draw_all(specs("one", "abort", "two", "half", "bad", "three"), drawing()).values())
    assert [bool(picture.svg) for picture in found] == [True, False, True, False, False, True]
    assert found[1].reason == "the drawing process ended by signal 6"
    assert found[4].reason == "the drawing library refused it: no such mark"
    assert all(bool(picture.svg) != bool(picture.reason) for picture in found)


def test_a_chart_that_takes_for_ever_ends_with_the_time_of_all() -> None:
    found = list(draw_all(specs("one", "hang", "two"), drawing(1.5)).values())
    assert "<text>one" in found[0].svg
    assert found[1].reason == "drawing took too long"
    assert found[2].reason == "drawing took longer than 1.5 s"


def test_a_process_that_cannot_start_is_told() -> None:
    found = draw_all(specs("one", "two"), Drawing(("/nowhere/python",), 5.0))
    assert {picture.reason for picture in found.values()} == {
        "the drawing process cannot be started: No such file or directory"
    }


def text_chart(text: str) -> dict[str, Any]:
    return {"data": {"values": [{"t": text}]}, "mark": "text", "encoding": {"text": {"field": "t"}}, "title": text}


def test_the_library_gets_no_character_that_it_dies_of() -> None:
    chars = ["\x00", "\x01", "\x0b", "\x1b", "\x7f", "\ufffe", "\uffff", "\ud800", "\u202e"]
    found = draw_all({f"key-{place}": text_chart(f"chest{char}1") for place, char in enumerate(chars)})
    assert [picture.reason for picture in found.values()] == [""] * len(chars)
    for char, picture in zip(chars, found.values(), strict=True):
        assert f"chest{char.encode('unicode_escape').decode()}1" in picture.svg


def test_the_process_of_the_library_itself_may_die(tmp_path: Path) -> None:
    # The text goes past what makes it visible, as another defect of the library would.
    script = tmp_path / "drawer.py"
    script.write_text(
        "import io, json, sys\nfrom safescale.report.drawer import main\n"
        "main(io.BytesIO(sys.stdin.buffer.read().replace(b'VT', b'\\\\u000b')), sys.stdout.buffer)\n"
    )
    found = draw_all({"a": text_chart("fine"), "b": text_chart("aVTb")}, Drawing((sys.executable, str(script))))
    assert found["a"].svg
    assert found["b"].reason == "the drawing process ended by signal 6"


@pytest.fixture
def brief(make_report: Callable[..., ReportInput]) -> ReportInput:
    return make_report(conditions=("zero_shot", "evidence_clean"), question_count=12, samples=4)


def test_a_page_says_what_could_not_be_drawn_and_has_its_numbers(brief: ReportInput) -> None:
    page = page_of(brief, Drawing((sys.executable, "-c", "import os; os.abort()")))
    assert len(page.undrawn) == page.html.count(
        "This picture could not be drawn: the drawing process ended by signal 6"
    )
    assert page.undrawn[0].endswith("the drawing process ended by signal 6")
    assert "<svg" not in page.html
    assert "Data of this figure" in page.html
    assert "Safety by condition and model" in page.html


def test_names_of_a_stored_run_that_no_reader_can_see_are_shown_everywhere(brief: ReportInput) -> None:
    old = "chest\x0b-001\ufffe"

    def renamed(text: object) -> object:
        return old if text == "chest-001" else text

    questions = [
        replace(each, question_id=str(renamed(each.question_id)), text="see\x1b[2J\u202e") for each in brief.questions
    ]
    run = type(brief.run)()
    run.CopyFrom(brief.run)
    run.manifest.spec.name = "demo\x00\x9b"
    run.manifest.question_ids[:] = [str(renamed(each)) for each in run.manifest.question_ids]
    tables = {name: frame.map(renamed) for name, frame in brief.tables.items()}
    report = replace(
        brief, run=run, questions=questions, tables=tables, answers=brief.answers.map(renamed),
        failed=[replace(each, message="died\x0b") for each in brief.failed],
    )  # fmt: skip
    page = page_of(report)
    assert page.undrawn == ()
    assert not {"\x00", "\x0b", "\x1b", "\x9b", "\u202e", "\ufffe"} & set(page.html)
    assert "chest\\x0b-001\\ufffe" in page.html
    assert "demo\\x00\\x9b" in page.html
    assert "died\\x0b" in page.html
    json.dumps(page.html).encode()

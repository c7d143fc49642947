"""Answer files that say less or other than they should: refused with file, line and field, or counted and said."""

import json
from pathlib import Path
from typing import Any

import pytest

from safescale.core.errors import InvalidInputError
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.formats.answers import read_answers, read_answers_with_notes

OPTIONS = {letter: f"option {letter}" for letter in "ABCD"}
BANK = Benchmark("bank", tuple(Question(f"risk_radiorag_{n}", "", OPTIONS, "B") for n in (1, 2, 3)))
HERE = "conditions.zero_shot"


def judged(letter: Any) -> dict[str, Any]:
    return {"clear_selection": "yes" if letter else "no", "reasoning": "", "confirmed_answer": letter}


def block(greedy: Any, samples: list[Any], **changed: Any) -> dict[str, Any]:
    single = {"parsed_answer": greedy, "elapsed_s": 1.5, "error": None, "checked_answer": judged(greedy)} | changed
    drawn = {"parsed_answers": samples, "error": None, "checked_answers": [judged(sample) for sample in samples]}
    return {"greedy": single, "stochastic": drawn}


def record(number: int, **conditions: Any) -> dict[str, Any]:
    return {"question_id": f"risk_radiorag_{number}", "correct_answer": "B", "model": "m", "conditions": conditions}


def write(folder: Path, name: str, *records: Any) -> None:
    text = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records)
    (folder / name).write_text(text, encoding="utf-8")


def test_letters_of_no_option_count_as_published_and_are_said(tmp_path: Path) -> None:
    write(tmp_path, "m.jsonl", *[record(n, zero_shot=block("E", ["E", "F", None, ""])) for n in (1, 2, 3)])
    answers, notes = read_answers_with_notes(tmp_path, BANK)
    # E is read although the question has four options: the published analysis takes A to E for letters.
    assert answers.greedy[0].tolist() == [[4, 4, 4]]
    assert answers.samples[0, 0].tolist() == [[4, -1, -1, -1]] * 3
    (note,) = notes
    assert note.startswith("9 letters are no option of their question, the first at ")
    assert f"m.jsonl:1 risk_radiorag_1 {HERE}.greedy.checked_answer.confirmed_answer" in note


UNREADABLE = ["b", "B.", "[B]", ["B"], "AB", 2, True, {"letter": "B"}, " B", "-", "None", "null", "Ｂ"]


@pytest.mark.parametrize("value", UNREADABLE)
@pytest.mark.parametrize("part", ["greedy", "samples"])
def test_what_is_no_letter_is_refused_and_never_an_abstention(tmp_path: Path, value: Any, part: str) -> None:
    changed = block("A", ["A", "A"])
    if part == "greedy":
        changed["greedy"]["checked_answer"]["confirmed_answer"] = value
    else:
        changed["stochastic"]["checked_answers"][1]["confirmed_answer"] = value
    write(tmp_path, "m.jsonl", record(2, zero_shot=block("A", ["A"])), record(1, zero_shot=changed))
    with pytest.raises(InvalidInputError, match=rf"m.jsonl:2: risk_radiorag_1 {HERE}.*confirmed_answer"):
        read_answers(tmp_path, BANK)


HALF_JUDGED = [
    (lambda b: b["greedy"].pop("checked_answer"), "greedy.checked_answer = missing; expected what the judge said"),
    (lambda b: b["greedy"].update(checked_answer=None, parsed_answer=None), "greedy.checked_answer = missing"),
    (lambda b: b["greedy"].update(checked_answer="A"), 'greedy.checked_answer = "A"; expected an object'),
    (lambda b: b["greedy"].update(checked_answer={"reasoning": ""}), "expected an object with confirmed_answer"),
    (lambda b: b["stochastic"].pop("checked_answers"), "stochastic.checked_answers = missing"),
    (lambda b: b["stochastic"].update(checked_answers=[]), "stochastic.checked_answers = missing"),
    (lambda b: b["stochastic"]["checked_answers"].pop(), "checked_answers = 1 entries; expected 2, one for each"),
    (lambda b: b["stochastic"]["checked_answers"].append(judged("A")), "checked_answers = 3 entries; expected 2"),
    (lambda b: b["stochastic"]["checked_answers"].__setitem__(1, None), "checked_answers.1 = null"),
    (lambda b: b["stochastic"].update(checked_answers={"0": judged("A")}), "expected a list"),
    (lambda b: b["stochastic"]["checked_answers"][0].update(clear_selection="maybe"), '"maybe"; expected yes or no'),
    (lambda b: b["greedy"]["checked_answer"].update(clear_selection=True), "clear_selection = true; expected yes or"),
    (lambda b: b.update(greedy=[1]), "greedy = .1.; expected an object"),
    (lambda b: b.update(stochastic="x"), 'stochastic = "x"; expected an object'),
]


@pytest.mark.parametrize(("change", "message"), HALF_JUDGED)
def test_a_file_that_was_judged_in_part_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    half = block("A", ["A", "C"])
    change(half)
    write(tmp_path, "m.jsonl", record(1, zero_shot=block("B", ["B"])), record(2, zero_shot=half))
    with pytest.raises(InvalidInputError, match=f"m.jsonl:2: risk_radiorag_2 {HERE}.*{message}"):
        read_answers(tmp_path, BANK)


def test_calls_that_failed_need_no_judge(tmp_path: Path) -> None:
    failed = {
        "greedy": {"parsed_answer": None, "elapsed_s": 0.0, "error": "timeout"},
        "stochastic": {"parsed_answers": [None, None], "error": "timeout", "checked_answers": []},
    }
    write(tmp_path, "m.jsonl", record(1, zero_shot=block("B", ["B", "B"])), record(2, zero_shot=failed))
    answers, notes = read_answers_with_notes(tmp_path, BANK)
    assert answers.greedy[0].tolist() == [[1, -1]]
    assert answers.samples[0, 0].tolist() == [[1, 1], [-2, -2]]
    assert "2 calls failed: what they lack counts as no answer, and an error can hide in it." in notes
    assert "1 cells have no samples, unlike others of their model and condition." in notes


def test_a_failed_call_that_was_judged_is_said_where_it_has_no_answer(tmp_path: Path) -> None:
    failed = block(None, [None, "A"], error="timeout")
    failed["stochastic"]["error"] = "timeout"
    whole = block("B", ["B", "A"], error="answered late")
    write(tmp_path, "m.jsonl", record(1, zero_shot=failed), record(2, zero_shot=whole))
    assert "2 calls failed" in "\n".join(read_answers_with_notes(tmp_path, BANK)[1])


def test_cells_that_lack_the_greedy_answer_of_others_are_said(tmp_path: Path) -> None:
    sampled = block("A", ["A"]) | {"greedy": None}
    write(tmp_path, "m.jsonl", record(1, zero_shot=block("A", ["A"]), top_1=sampled), record(2, zero_shot=sampled))
    # Under top_1 nobody was asked greedily.
    notes = read_answers_with_notes(tmp_path, BANK)[1]
    assert "1 cells have no greedy answer, unlike others of their model and condition: they count as" in "\n".join(
        notes
    )


@pytest.mark.parametrize("seconds", [-3600.0, -0.1, 1e9, "1.5", True, [1]])
def test_seconds_that_cannot_be_are_refused(tmp_path: Path, seconds: Any) -> None:
    write(tmp_path, "m.jsonl", record(1, zero_shot=block("A", [], elapsed_s=seconds)))
    with pytest.raises(InvalidInputError, match=rf"m.jsonl:1: risk_radiorag_1 {HERE}.greedy.elapsed_s = "):
        read_answers(tmp_path, BANK)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question_id": "risk_radiorag_1", "conditions": {"zero_shot": NaN}}', "the number NaN"),
        ('{"question_id": "risk_radiorag_1", "conditions": {}, "conditions": {}}', 'the key "conditions" twice'),
        (json.dumps(record(1, zero_shot=block("A", [])))[:80], "one JSON object per line"),
        (record(1, zero_shot=block("A", [])) | {"model": 3}, "model = 3; expected the name of a model"),
        (record(1, zero_shot=block("A", [])) | {"model": "a\x1b[2J"}, r"model = U\+001B"),
        (record(1, **{"a\x0b": block("A", [])}), r"condition = U\+000B"),
        (record(1, zero_shot=block("A", [])) | {"formulation": "free"}, 'formulation = "free"; expected letter or'),
        (record(2, zero_shot=block("A", [])), "question_id = .*expected each cell once, since .*m.jsonl:1 has m, zero"),
    ],
)
def test_records_that_would_be_read_as_less_than_they_say_are_refused(tmp_path: Path, line: Any, message: str) -> None:
    write(tmp_path, "m.jsonl", record(2, zero_shot=block("A", [])), line)
    with pytest.raises(InvalidInputError, match=f"m.jsonl:2: .*{message}"):
        read_answers(tmp_path, BANK)


def test_a_mark_at_the_start_is_dropped_and_other_encodings_are_named(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(record(1, zero_shot=block("A", []))).encode())
    assert read_answers(tmp_path, BANK).n_answers == 1
    (tmp_path / "m.jsonl").write_bytes(json.dumps(record(1)).encode("utf-16"))
    with pytest.raises(InvalidInputError, match=r"m.jsonl:1: encoding = UTF-16; expected UTF-8"):
        read_answers(tmp_path, BANK)
    (tmp_path / "m.jsonl").write_bytes(b'{"question_id": "Gr\xfc"}')
    with pytest.raises(InvalidInputError, match=r"m.jsonl:1: encoding = byte 0xfc"):
        read_answers(tmp_path, BANK)


def test_a_file_without_records_among_others_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", record(1, zero_shot=block("A", [])))
    write(tmp_path, "b.jsonl", "")
    with pytest.raises(InvalidInputError, match=r"b.jsonl: no records"):
        read_answers(tmp_path, BANK)


def test_what_is_missing_or_odd_is_said(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", *[record(n, zero_shot=block("A", ["A", "A"])) | {"model": "a"} for n in (1, 2)])
    first, second = record(1, zero_shot=block("A", ["A"])), record(1, other=block("A", []))
    write(tmp_path, "b.jsonl", first | {"model": "b"}, second | {"model": "c"})
    notes = "\n".join(read_answers_with_notes(tmp_path, BANK)[1])
    assert "b.jsonl has answers of 2 models: b, c." in notes
    assert "1 of the 3 questions of the labels have no answer of any model." in notes
    assert "of 2 questions, a under other has 0; b under zero_shot has 1;" in notes
    assert "1 cells have fewer samples than the 2 of the others." in notes
    assert "Conditions that are none of the protocol: other." in notes


def cell_verdict(**changed: Any) -> dict[str, Any]:
    cell = {"run_id": "r", "model": "m", "condition": "zero_shot", "question_id": "risk_radiorag_1"}
    return {
        "cell": cell, "formulation": "FORMULATION_LETTER", "greedy_asked": True, "greedy": {"letter": "A"},
        "samples_asked": 2, "samples": [{"letter": "A"}, {}], "timings": {"greedy_s": 0.25},
    } | changed  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": [{"letter": "A"}]}, "samples = 1 samples; expected 2, as samples_asked says"),
        ({"samples": [{"letter": "A"}] * 3}, "samples = 3 samples; expected 2"),
        ({"samples": [{"letter": "A"}], "failure": {"reason": "JUDGE_FAILED"}}, "samples = 1 samples; expected 2"),
        ({"greedy": None, "failure": {"reason": "JUDGE_FAILED"}}, "greedy = missing"),
        ({"samples": [{"letter": "a"}, {}]}, 'samples.0.letter = "a"; expected one of the letters'),
        ({"samples": {}}, "expected a list of samples"),
        ({"samples_asked": -1}, "samples_asked = -1"),
        ({"samples_asked": 4_000_000_000, "failure": {"reason": "x"}}, "samples_asked = 4000000000"),
        ({"greedy": None}, "greedy = missing; expected an answer, since the cell did not fail"),
        ({"greedy": "A"}, 'greedy = "A"; expected an object'),
        ({"timings": {"greedy_s": -1}}, "timings.greedy_s = -1"),
        ({"formulation": "FORMULATION_OTHER"}, "formulation = "),
        ({"cell": {"question_id": "risk_radiorag_1"}}, "model = empty"),
    ],
)
def test_verdicts_that_are_less_than_they_say_are_refused(tmp_path: Path, changed: Any, message: str) -> None:
    write(tmp_path, "verdicts.jsonl", cell_verdict(**changed))
    with pytest.raises(InvalidInputError, match=f"verdicts.jsonl:1: risk_radiorag_1 .*{message}"):
        read_answers(tmp_path, BANK)


def test_an_export_of_several_models_is_nothing_odd(tmp_path: Path) -> None:
    other = cell_verdict()
    other["cell"] = other["cell"] | {"model": "n"}
    write(tmp_path, "verdicts.jsonl", cell_verdict(), other)
    assert not any("models" in note for note in read_answers_with_notes(tmp_path, BANK)[1])


def test_calls_that_failed_are_unread_and_stated_nulls_are_not(tmp_path: Path) -> None:
    failed = {"parsed_answer": None, "error": "timeout", "checked_answer": judged(None)}
    whole = block(None, ["A", None])
    cut = block("A", ["A", None]) | {"greedy": failed}
    cut["stochastic"]["error"] = "timeout"
    write(tmp_path, "m.jsonl", record(1, zero_shot=whole), record(2, zero_shot=cut))
    answers = read_answers(tmp_path, BANK)
    assert answers.greedy_unread is not None
    assert answers.samples_unread is not None
    assert answers.greedy_unread[0, 0].tolist() == [False, True]
    assert answers.samples_unread[0, 0].tolist() == [[False, False], [False, True]]


def test_what_our_own_export_calls_unread_is_unread(tmp_path: Path) -> None:
    made = block(None, [None, None])
    made["greedy"]["checked_answer"]["unread"] = True
    made["stochastic"]["error"] = "JUDGE_FAILED: down"
    for answer, unread in zip(made["stochastic"]["checked_answers"], (True, False), strict=True):
        answer["unread"] = unread
    write(tmp_path, "m.jsonl", record(1, zero_shot=made))
    answers, notes = read_answers_with_notes(tmp_path, BANK)
    assert answers.greedy_unread is not None
    assert answers.samples_unread is not None
    assert answers.greedy_unread.all()
    assert answers.samples_unread[0, 0].tolist() == [[True, False]]
    assert any("1 answers could be read by nobody" in note for note in notes)
    made["greedy"]["checked_answer"]["unread"] = "yes"
    write(tmp_path, "m.jsonl", record(1, zero_shot=made))
    with pytest.raises(InvalidInputError, match=r'checked_answer\.unread = "yes"; expected true or false'):
        read_answers(tmp_path, BANK)

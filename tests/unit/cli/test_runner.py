import pytest

from safescale.cli.runner import guarded, sentence
from safescale.core.errors import Defect, InvalidInputError, NotFoundError


def test_bytes_that_are_no_text_are_a_mistake_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        "run \udcff".encode()

    with pytest.raises(SystemExit) as ended:
        guarded(command)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "Error: 'run \\udcff' holds bytes that are no UTF-8; expected UTF-8 in arguments and file names\n"
    )


def test_an_error_cannot_steer_a_terminal() -> None:
    defect = Defect("b\x1b.jsonl", 3, "chest\x0b1", "field", '"\u202e"', "text")
    shown = sentence(InvalidInputError("no run '\x1b]0;x\x07'", details={"x": "\x00"}, defects=[defect]))
    assert shown == ("Error: no run '\\x1b]0;x\\x07'\n  b\\x1b.jsonl:3: chest\\x0b1 field = \"\\u202e\"; expected text")
    assert str(NotFoundError("a\x1b")) == "a\\x1b"
    assert NotFoundError("a", details={"x": "\x00"}).details == {"x": "\\x00"}

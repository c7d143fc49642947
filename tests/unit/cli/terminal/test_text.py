import io
import re
from typing import Any

import pytest
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from safescale.cli.terminal.text import printable, say, terminal


def test_text_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[31mä\n\udcff") == "a\\x1b[31mä\\n\\udcff"


def shown(*renderables: Any) -> str:
    made = terminal()
    made.file = io.StringIO()
    for each in renderables:
        made.print(each, soft_wrap=isinstance(each, str), highlight=False, markup=False)
    return made.file.getvalue()


def test_a_console_shows_what_would_steer_it() -> None:
    table = Table(title="run \x1b]0;owned\x07")
    table.add_column("model")
    table.add_row("x\x1b[2Jy\r")
    table.add_row(Text("\u202eevil\x00"))
    text = shown("id \x1b[31m\x9b1A\x0b\ud800", table)
    assert not {"\x1b", "\x07", "\x9b", "\x00", "\u202e", "\ud800"} & set(text)
    assert "id \\x1b[31m\\x9b1A\\x0b\\ud800" in text
    assert "x\\x1b[2Jy\\r" in text
    assert "\\u202eevil\\x00" in re.sub(r"[\s│]", "", text)


def test_a_live_view_shows_what_would_steer_it() -> None:
    made = terminal(io.StringIO())
    made.is_interactive, made._force_terminal = True, True
    with Live(console=made, auto_refresh=False) as live:
        live.update(Group(Text("failed: \x1b]0;owned\x9b\ud800", style="red")), refresh=True)
    text = made.file.getvalue()
    assert "failed: \\x1b]0;owned\\x9b\\ud800" in text
    # Those of the view itself.
    assert "\x1b[" in text
    assert "\x1b]" not in text


def test_a_console_keeps_its_own_styles() -> None:
    made = terminal()
    with made.capture() as captured:
        made.print(Text("red\x1b", style="red"))
    assert "red\\x1b" in captured.get()


def test_a_line_that_is_said_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[31m\nb")
    assert capsys.readouterr().out == "a\\x1b[31m\nb\n"

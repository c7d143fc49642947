from safescale.cli.text import printable


def test_text_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[31mä\n\udcff") == "a\\x1b[31mä\\n\\udcff"

import io
import json

import pytest

from safescale.core.errors import InvalidInputError
from safescale.runtime.log import configure_logging, get_logger, log_context


def test_lines_are_json_and_hold_allowed_fields_alone() -> None:
    stream = io.StringIO()
    configure_logging("INFO", stream)
    with log_context(run_id="r1", model="m"):
        get_logger("scoring").info("verdict recorded", condition="top_1", prompt="secret passage", answer="B")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["run_id"], line["condition"], line["service"]) == (
        "verdict recorded", "r1", "top_1", "scoring",
    )  # fmt: skip
    assert line["dropped"] == ["answer", "prompt"]
    assert "secret" not in stream.getvalue()


def test_levels_filter() -> None:
    stream = io.StringIO()
    configure_logging("WARNING", stream)
    get_logger("x").info("quiet")
    assert stream.getvalue() == ""


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(InvalidInputError, match="LOUD"):
        configure_logging("LOUD")


def test_a_broken_stream_loses_the_line_and_not_the_work() -> None:
    stream = io.StringIO()
    configure_logging("INFO", stream)
    stream.close()
    get_logger("x").warning("nobody hears this")

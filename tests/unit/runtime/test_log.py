import ast
import io
import json
from pathlib import Path

import pytest

import safescale
from safescale.core.errors import InvalidInputError
from safescale.runtime.log import ALLOWED_FIELDS, configure_logging, get_logger, log_context

LEVELS = ("debug", "info", "warning", "error", "critical", "exception")


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


def fields_of(source: str) -> set[str]:
    """Names of the fields that the log calls of a module give."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    logged = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in LEVELS]
    logged = [call for call in logged if "log" in ast.unparse(call.func.value)]
    logged += [call for call in calls if ast.unparse(call.func).endswith("log_context")]
    return {keyword.arg for call in logged for keyword in call.keywords if keyword.arg}


def test_no_line_of_the_services_loses_a_field() -> None:
    package = Path(safescale.__file__).parent
    lost = {str(path.relative_to(package)): fields_of(path.read_text()) for path in package.rglob("*.py")}
    assert {path: names - ALLOWED_FIELDS for path, names in lost.items() if names - ALLOWED_FIELDS} == {}
    assert fields_of("self._log.warning('circuit', replica=1, open=2)") == {"replica", "open"}

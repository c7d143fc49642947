import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import attach, detach
from opentelemetry.trace import format_trace_id, get_current_span

from safescale.core.errors import InvalidInputError
from safescale.runtime.log import configure_logging, get_logger
from safescale.runtime.settings import load_settings
from safescale.runtime.telemetry import Telemetry
from safescale.runtime.tracing import allowed, context_of, sampled_trace_id, trace_headers, untraced

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


@contextmanager
def _within(traceparent: str) -> Iterator[None]:
    token = attach(context_of(traceparent))
    try:
        yield
    finally:
        detach(token)


def test_the_specification_s_example() -> None:
    for traceparent, sampled in ((TRACEPARENT, TRACE), (f"00-{TRACE}-{SPAN}-00", "")):
        with _within(traceparent):
            assert sampled_trace_id() == sampled
            assert trace_headers() == {"traceparent": traceparent}
    # A later version may append fields and flags.
    with _within(f"cc-{TRACE}-{SPAN}-09-what-comes-later"):
        assert sampled_trace_id() == TRACE
        assert trace_headers()["traceparent"].startswith(f"00-{TRACE}-{SPAN}-")


@pytest.mark.parametrize("wrong", [
    "", "x", f"00-{TRACE}-{SPAN}", f"00-{TRACE.upper()}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}-1", "0" * 600,
])  # fmt: skip
def test_what_cannot_be_read_starts_a_new_trace(wrong: str) -> None:
    with _within(wrong):
        assert not get_current_span().get_span_context().is_valid
        assert trace_headers() == {}


@given(st.text(max_size=80))
def test_no_header_is_an_error(text: str) -> None:
    span = get_current_span(context_of(text)).get_span_context()
    assert not span.is_valid or format_trace_id(span.trace_id) in text


async def test_a_task_that_is_started_untraced_is_in_no_trace() -> None:
    async def trace() -> str:
        return sampled_trace_id()

    with _within(TRACEPARENT):
        assert await asyncio.create_task(trace()) == TRACE
        with untraced():
            task = asyncio.create_task(trace())
            assert sampled_trace_id() == ""
        assert await task == ""
        assert sampled_trace_id() == TRACE
    assert sampled_trace_id() == ""


def test_texts_are_no_attributes() -> None:
    fields = {"prompt": "Is it safe?", "text": "an answer", "passage": "...", "query": "q", "model": "m" * 500}
    assert allowed({**fields, "attempt": 2, "condition": None}) == {"model": "m" * 200, "attempt": 2}


def test_a_line_of_the_log_names_its_trace() -> None:
    stream = StringIO()
    configure_logging("INFO", stream)
    get_logger("test").info("outside")
    with _within(TRACEPARENT):
        get_logger("test").info("inside")
    with _within(f"00-{TRACE}-{SPAN}-00"):
        get_logger("test").info("not recorded")
    outside, inside, unrecorded = map(json.loads, stream.getvalue().splitlines())
    assert "trace_id" not in outside
    assert "trace_id" not in unrecorded
    assert inside["trace_id"] == TRACE


def test_an_observation_within_a_trace_has_an_exemplar_and_openmetrics_shows_it() -> None:
    telemetry = Telemetry()
    labels = {"model": "m", "condition": "c"}
    telemetry.observe("safescale_time_to_first_token_seconds", 0.3, labels)
    with _within(TRACEPARENT):
        telemetry.observe("safescale_time_to_first_token_seconds", 0.7, labels)
    with _within(f"00-{TRACE}-{SPAN}-00"):
        telemetry.observe("safescale_time_to_first_token_seconds", 40.0, labels)
    body, content_type = telemetry.expose("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    found = [line for line in body.decode().splitlines() if "trace_id" in line]
    assert len(found) == 1
    assert 'le="1.0"' in found[0]
    assert f'# {{trace_id="{TRACE}"}} 0.7' in found[0]
    body, content_type = telemetry.expose("")
    assert content_type.startswith("text/plain")
    assert b"trace_id" not in body


def test_without_an_endpoint_the_sdk_is_not_imported() -> None:
    code = (
        "import asyncio, contextlib, sys, safescale.app.host\n"
        "from safescale.app.bootstrap import open_bus, open_telemetry\n"
        "from safescale.runtime.settings import load_settings\n"
        "telemetry = open_telemetry(load_settings(), 'all', contextlib.AsyncExitStack())\n"
        "open_bus(load_settings(), telemetry)\n"
        "with telemetry.span('work'), telemetry.serving('/m', ''): pass\n"
        "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "value"), [
    ("OTLP_ENDPOINT", "collector:4317"), ("OTLP_ENDPOINT", "http://collector"), ("TRACE_RATIO", "1.5"),
    ("TRACE_RATIO", "all"),
])  # fmt: skip
def test_wrong_settings_are_named(monkeypatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SAFESCALE_{name}", value)
    with pytest.raises(InvalidInputError, match=f"SAFESCALE_{name} = '{value}'"):
        load_settings()

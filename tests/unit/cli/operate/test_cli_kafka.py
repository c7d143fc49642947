import pytest
from typer.testing import CliRunner

from safescale.cli.main import app
from safescale.cli.operate.dead_letters import payload_text
from safescale.core.errors import FailedPreconditionError, InvalidInputError
from safescale.rpc.events.v1 import events_pb2
from safescale.runtime.bus.event import event_message
from safescale.runtime.bus.port import Message


def raised(*arguments: str) -> BaseException:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is not None
    return result.exception


@pytest.mark.parametrize(
    "command", [["topics", "list"], ["topics", "diff"], ["topics", "apply"], ["dead-letters", "list"]]
)
def test_without_a_kafka_the_setting_is_named(command: list[str], monkeypatch) -> None:
    monkeypatch.delenv("SAFESCALE_KAFKA", raising=False)
    error = raised(*command)
    assert isinstance(error, FailedPreconditionError)
    assert "SAFESCALE_KAFKA is empty" in error.message


@pytest.mark.parametrize("arguments", [[], ["1:2", "--all"], ["--all", "--run", "r"]])
def test_a_replay_is_told_what_to_replay(arguments: list[str]) -> None:
    error = raised("dead-letters", "replay", *arguments)
    assert isinstance(error, InvalidInputError)
    assert "one of" in error.message


def test_again_is_for_one_dead_letter() -> None:
    assert "--again goes with one identifier" in str(raised("dead-letters", "replay", "--all", "--again"))


def test_a_payload_is_shown_as_json_by_its_type() -> None:
    event = events_pb2.VerdictRecorded()
    event.verdict.cell.model = "m"
    assert '"model": "m"' in payload_text(event_message("t", "k", event, "r", 1))


def test_a_payload_that_cannot_be_read_is_shown_in_base64() -> None:
    headers = {"message-type": "safescale.events.v1.VerdictRecorded"}
    assert payload_text(Message("t", "k", b"\xff\xff", headers)) == (
        "payload is no readable safescale.events.v1.VerdictRecorded, in base64: //8="
    )
    assert "unknown type 'other.Type'" in payload_text(Message("t", "k", b"\xff", {"message-type": "other.Type"}))
    assert "unknown type" in payload_text(Message("t", "k", b""))

import grpc
import pytest
from grpc_status import rpc_status

from safescale.core.errors import BenchmarkError, Defect, FailedPreconditionError, SafescaleError
from safescale.rpc.scoring.v1 import scoring_pb2
from safescale.rpc.scoring.v1.scoring_pb2_grpc import ScoringServiceStub
from safescale.runtime import errors
from safescale.runtime.grpc.channels import connect, responses

CLASSES = errors.error_classes()


def test_the_walk_finds_the_whole_tree() -> None:
    def below(cls: type[SafescaleError]) -> set[type[SafescaleError]]:
        return {cls}.union(*(below(sub) for sub in cls.__subclasses__()))

    assert set(CLASSES) == below(SafescaleError)


def test_reasons_are_unique() -> None:
    reasons = [cls.reason for cls in CLASSES if cls.__name__ != "BackendError"]
    assert len(reasons) == len(set(reasons))


@pytest.mark.parametrize("cls", CLASSES)
def test_each_error_maps_everywhere(cls: type[SafescaleError]) -> None:
    error = cls("what happened", details={"field": "x"})
    status = rpc_status.to_status(errors.to_status(error))
    assert status.code is getattr(grpc.StatusCode, error.code)
    problem = errors.to_problem(error)
    assert 400 <= problem["status"] < 600
    assert problem["reason"] == error.reason
    headers = errors.to_headers(error)
    assert headers["error-reason"] == error.reason
    failure = errors.to_failure(error)
    assert (failure.code, failure.reason, failure.retryable) == (error.code, error.reason, error.retryable)


@pytest.mark.parametrize("cls", CLASSES)
def test_each_error_comes_back_through_a_call(cls: type[SafescaleError]) -> None:
    sent = rpc_status.to_status(errors.to_status(cls("what happened", details={"field": "x"})))
    metadata = grpc.aio.Metadata(*sent.trailing_metadata)
    received = errors.from_rpc_error(grpc.aio.AioRpcError(sent.code, grpc.aio.Metadata(), metadata, sent.details))
    assert type(received) is cls
    assert received.message == "what happened"
    assert received.details == {"field": "x"}


def test_defects_come_back_as_lines() -> None:
    error = BenchmarkError("2 defects", defects=[Defect("f.jsonl", 3, "q1", "options", "1", "at least 2")])
    sent = rpc_status.to_status(errors.to_status(error))
    metadata = grpc.aio.Metadata(*sent.trailing_metadata)
    received = errors.from_rpc_error(grpc.aio.AioRpcError(sent.code, grpc.aio.Metadata(), metadata, sent.details))
    assert "f.jsonl:3: q1 options = 1; expected at least 2" in received.message


def test_a_stored_failure_is_bounded() -> None:
    failure = errors.to_failure(SafescaleError("server said: " + "é" * 2_000_000))
    assert failure.message.startswith("server said: é")
    assert failure.message.endswith("…")
    assert failure.ByteSize() < 20_000
    assert errors.to_failure(SafescaleError("short")).message == "short"


def test_an_unknown_exception_gives_its_type_alone() -> None:
    known = errors.as_safescale_error(ValueError("the passage of a patient"))
    assert known.code == "INTERNAL"
    assert "patient" not in known.message


def test_a_dead_server_is_retryable() -> None:
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "refused")
    assert errors.from_rpc_error(error).retryable


async def test_a_server_without_a_method_is_said_to_be_of_an_older_version() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = connect(f"127.0.0.1:{port}")
    try:
        stream = ScoringServiceStub(channel).GetRunTables(scoring_pb2.GetRunTablesRequest(run_id="r"))
        with pytest.raises(FailedPreconditionError, match="of an older version than its caller"):
            [chunk async for chunk in responses(stream)]
    finally:
        await channel.close()
        await server.stop(None)


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "é" * 100_000, "%" * 100_000, "\U0001f600" * 100_000, "line\n" * 20_000]
)
def test_a_status_fits_into_the_headers_of_an_answer(text: str) -> None:
    defects = [Defect(text, 1, text[:80], "options", "1", "at least 2")] * 100
    status = rpc_status.to_status(errors.to_status(BenchmarkError(text, details={"field": text}, defects=defects)))
    details = status.trailing_metadata[0][1]
    as_written = sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in status.details.encode())
    assert as_written + len(details) * 4 / 3 < 7_800
    assert status.details.startswith(text[:200])
    assert status.details.endswith("…")


def test_as_many_defects_are_told_as_have_room() -> None:
    defects = [Defect("f.jsonl", line, f"q{line}", "options", "1", "at least 2") for line in range(1, 101)]
    sent = rpc_status.to_status(errors.to_status(BenchmarkError("100 defects", defects=defects)))
    metadata = grpc.aio.Metadata(*sent.trailing_metadata)
    received = errors.from_rpc_error(grpc.aio.AioRpcError(sent.code, grpc.aio.Metadata(), metadata, sent.details))
    assert type(received) is BenchmarkError
    assert all(f"f.jsonl:{line}: q{line} " in received.message for line in range(1, 51))

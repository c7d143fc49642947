import grpc
import pytest

from safescale.core.errors import LimitExceededError, NotFoundError, SafescaleError, ServiceUnavailableError
from safescale.gateway import clients as peers
from safescale.rpc.inference.v1 import inference_pb2 as pb


def failure(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "said by the transport")


async def test_a_read_is_tried_again_while_the_service_is_away(world) -> None:
    answers = iter([ServiceUnavailableError("away"), ServiceUnavailableError("away"), pb.ListModelsResponse()])
    world.fakes.on("ListModels", lambda _: next(answers))
    found = await world.client.get("/api/v1/models")
    assert found.json() == {"items": []}
    assert world.fakes.count("ListModels") == 3


async def test_what_changes_something_is_tried_once(world) -> None:
    world.fakes.on("CancelRun", ServiceUnavailableError("away"))
    found = await world.client.post("/api/v1/runs/demo-1/cancel")
    assert (found.status_code, found.headers["Retry-After"]) == (503, "5")
    assert (found.json()["reason"], found.json()["retryable"]) == ("SERVICE_UNAVAILABLE", True)
    assert world.fakes.count("CancelRun") == 1


async def test_an_answer_that_is_an_error_is_not_tried_again(world) -> None:
    world.fakes.on("GetModel", NotFoundError("no model 'x'"))
    found = await world.client.get("/api/v1/models/x")
    assert (found.status_code, found.json()["detail"]) == (404, "no model 'x'")
    assert world.fakes.count("GetModel") == 1


@pytest.mark.parametrize(
    ("code", "expected", "reason"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, LimitExceededError, "LIMIT_EXCEEDED"),
        (grpc.StatusCode.CANCELLED, ServiceUnavailableError, "SERVICE_UNAVAILABLE"),
        (grpc.StatusCode.UNIMPLEMENTED, ServiceUnavailableError, "SERVICE_UNAVAILABLE"),
        (grpc.StatusCode.INTERNAL, SafescaleError, "INTERNAL"),
    ],
)
def test_what_the_transport_says_has_its_place(code, expected, reason) -> None:
    found = peers.error_of(failure(code))
    assert (type(found), found.reason) == (expected, reason)

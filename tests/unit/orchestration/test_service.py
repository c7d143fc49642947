import pytest

from safescale.core.errors import InvalidInputError
from safescale.orchestration.service import run_of
from safescale.runtime.bus.port import Message


def test_an_event_belongs_to_the_run_that_its_header_names() -> None:
    assert run_of(Message("safescale.verdict.recorded.v1", "k", b"", {"run-id": "r1"})) == "r1"


@pytest.mark.parametrize("headers", [{}, {"run-id": ""}])
def test_an_event_without_a_run_is_refused_and_not_passed_over(headers: dict[str, str]) -> None:
    with pytest.raises(
        InvalidInputError, match=r"safescale\.verdict\.recorded\.v1 names no run; expected the header run-id"
    ):
        run_of(Message("safescale.verdict.recorded.v1", "k", b"", headers))

from safescale.core.safety.conditions import CONDITIONS
from safescale.orchestration.kinds.safety_requests import REQUESTS


def test_every_context_that_is_built_can_be_requested() -> None:
    assert {type(row.builder) for row in CONDITIONS if row.builder.needs_corpus(agent=True)} == set(REQUESTS)

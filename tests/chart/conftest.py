"""What the chart renders, and what it refuses."""

from collections.abc import Callable

import pytest
from tests.chart.charts import SETS, Rendered, objects, template


@pytest.fixture
def render() -> Callable[..., Rendered]:
    def rendered(name: str, *settings: str) -> Rendered:
        done = template(SETS[name], *settings)
        assert done.returncode == 0, done.stderr
        return objects(done.stdout)

    return rendered


@pytest.fixture
def refused() -> Callable[..., str]:
    """What helm says to values that it must refuse."""

    def message(name: str, *settings: str) -> str:
        done = template(SETS[name], *settings)
        assert done.returncode != 0, f"helm took {settings}"
        return done.stderr

    return message

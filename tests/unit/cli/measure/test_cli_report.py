"""What `safescale report` says of pictures that could not be drawn."""

from collections.abc import Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from safescale.cli.main import app
from safescale.cli.measure import report


@pytest.mark.parametrize("undrawn", [(), ("Latency by condition: the drawing process ended by signal 6",)])
def test_a_picture_that_is_missing_is_said_and_told_by_the_exit_code(monkeypatch, undrawn: Sequence[str]) -> None:
    def written(work: Any) -> Sequence[str]:
        work.close()
        report.say_undrawn(undrawn)
        return undrawn

    monkeypatch.setattr(report, "run_async", written)
    result = CliRunner().invoke(app, ["report", "latest"])
    assert result.exit_code == len(undrawn)
    said = [f"Not drawn: {sentence}. The report has its numbers as a table." for sentence in undrawn]
    assert result.stderr.splitlines() == said

"""What a person should know of a run's answers beside its table: where they came from, and what was odd about them."""

from collections.abc import Iterable

from safescale.rpc.scoring.v1 import scoring_pb2

MEANINGS = {
    "PROMPT_MAYBE_CUT": "the server counts fewer prompt tokens than were sent, so it may have cut the prompt",
}
"""What the warnings of model servers mean."""


def cached_line(metrics: scoring_pb2.GetRunMetricsResponse) -> str:
    """One line: how many of the cells with a verdict took their answers from the generation cache."""
    cells = metrics.verdict_count
    if not metrics.cached_count:
        return f"From the generation cache: none of {cells:,} cells."
    share = 100 * metrics.cached_count / max(1, cells)
    # A single cell that was asked anew is not rounded away.
    shown = "100" if metrics.cached_count == cells else f"{min(share, 99.9):.1f}"
    return (
        f"From the generation cache: {metrics.cached_count:,} of {cells:,} cells ({shown} %), "
        "with the seconds that they took when they were asked (--fresh asks anew)."
    )


def warning_lines(warnings: Iterable[tuple[str, int]]) -> list[str]:
    """Warnings by what was odd, with the cells that have it."""
    lines = []
    for name, count in sorted(warnings):
        meaning = f": {MEANINGS[name]}" if name in MEANINGS else ""
        lines.append(f"{count:,} cell{'s' if count > 1 else ''} with a warning: {name}{meaning}")
    return lines

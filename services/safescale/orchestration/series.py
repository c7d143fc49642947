"""The series that runs belong to."""

from collections.abc import Iterable

from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb


def series_of(runs: Iterable[pb.Run]) -> list[pb.SeriesSummary]:
    """Return a summary of each series, by name. `runs` are newest first; those of no series count nowhere."""
    found: dict[str, pb.SeriesSummary] = {}
    for run in runs:
        name = run.manifest.spec.series
        if not name:
            continue
        if name not in found:
            newest = pb.SeriesSummary(series=name, newest_run_id=run.run_id, newest_created_at=run.created_at)
            found[name] = newest
        found[name].run_count += 1
        found[name].completed_count += run.state == pb.RUN_STATE_COMPLETED
    return [found[name] for name in sorted(found)]

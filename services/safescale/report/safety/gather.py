"""From the tables of a run to the input of its report."""

from safescale.report.frames import frame_of_table
from safescale.report.port import RunResults
from safescale.report.safety.inputs import FailedCell, ReportInput


def report_input(results: RunResults) -> ReportInput:
    """Return the input of a report."""
    wanted = set(results.run.manifest.question_ids)
    tables = results.tables
    (summary,) = tables["summary"].rows()
    return ReportInput(
        run=results.run,
        tables={name: frame_of_table(table) for name, table in tables.items()},
        questions=[question for question in results.benchmark.questions if question.question_id in wanted],
        verdict_count=summary["n_verdicts"],
        failed=[FailedCell(**row) for row in tables["failed_cells"].rows()],
        policy=results.policy,
        generated_at=results.generated_at,
        latency=frame_of_table(tables["latency"]),
        answers=frame_of_table(tables["answers"]),
        missing=[row["sentence"] for row in tables["missing"].rows()],
        cached_count=summary["n_cached"],
        warnings={row["warning"]: row["n_cells"] for row in tables["warnings"].rows()},
    )

"""Results of a safety run as a page, as tables and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format

from safescale.core.errors import FailedPreconditionError
from safescale.core.tables import Table
from safescale.report.port import ComparisonResults, Page, RunResults

OF_THE_PAGE = ("summary", "missing", "missing_cells", "failed_cells", "warnings", "answers", "latency")
"""Tables that the page needs and that are not written as files."""


class SafetyRenderer:
    """The renderer of safety runs."""

    def check(self, results: RunResults) -> None:
        """Raise FailedPreconditionError where the run has no verdicts yet."""
        if not _summary(results)["n_verdicts"]:
            raise FailedPreconditionError(f"run {results.run.run_id} has no verdicts yet")

    def page(self, results: RunResults) -> Page:
        """Return the report as a page."""
        # Charts and data frames take seconds to import and much memory: only who draws a report pays for them.
        from safescale.report.safety.gather import report_input
        from safescale.report.safety.page import page_of

        return page_of(report_input(results))

    def comparison(self, results: ComparisonResults) -> Page:
        """Return a comparison of two runs as a page."""
        from safescale.report.safety.comparison.page import comparison_page

        return comparison_page(results)

    def missing(self, results: RunResults) -> Sequence[str]:
        """Return what keeps the run from being complete."""
        return [row["sentence"] for row in results.tables["missing"].rows()]

    def files(self, results: RunResults) -> Mapping[str, Table]:
        """Return the tables of the analysis, who read the answers, and how complete the run is."""
        return {name: table for name, table in results.tables.items() if name not in OF_THE_PAGE}

    def document(self, results: RunResults) -> Mapping[str, Any]:
        """Return how complete the run is, the run and its tables."""
        tables, summary = results.tables, _summary(results)
        return {
            "completeness": {
                "complete": summary["complete"],
                "missing": self.missing(results),
                "planned": summary["n_planned"],
                "verdicts": summary["n_verdicts"],
                "skipped": summary["n_skipped"],
                "cells": list(tables["completeness"].rows()),
                "missing_cells": [list(row.values()) for row in tables["missing_cells"].rows()],
            },
            "run": json_format.MessageToDict(results.run, preserving_proto_field_name=True),
            "tables": {
                name: list(table.rows()) for name, table in self.files(results).items() if name != "completeness"
            },
        }


def _summary(results: RunResults) -> Mapping[str, Any]:
    (row,) = results.tables["summary"].rows()
    return row

"""The renderers of reports: a kind of run more is an entry more."""

from safescale.report.port import Renderers
from safescale.report.safety.renderer import SafetyRenderer
from safescale.rpc.runs import DEFAULT_KIND


def run_renderers() -> Renderers:
    """Return every renderer by the name of the kind of runs that it draws."""
    return {DEFAULT_KIND: SafetyRenderer()}

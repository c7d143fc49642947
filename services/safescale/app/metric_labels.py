"""The labels of metrics with the values that the domain gives them."""

from collections.abc import Mapping

from safescale.core.safety.conditions import CONDITION_IDS
from safescale.runtime.labels import LABELS, Label, one_of

DOMAIN_LABELS: Mapping[str, Label] = {
    **LABELS,
    "condition": one_of("the table of conditions, and rpc for calls of no cell", (*CONDITION_IDS, "rpc")),
}
"""Labels of the metrics of every process: a condition that is not in the table is shown as `other`."""

"""The kinds of runs that scoring knows: a kind more is an entry more."""

from safescale.rpc.runs import DEFAULT_KIND
from safescale.scoring.kinds.port import Kinds
from safescale.scoring.kinds.safety import SafetyScoring
from safescale.scoring.kinds.safety_reading import AnswerReader


def scoring_kinds(reader: AnswerReader) -> Kinds:
    """Return every kind by its name; `reader` reads the answers of models."""
    return {DEFAULT_KIND: SafetyScoring(reader)}

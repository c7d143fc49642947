"""The kinds of runs that scoring knows: a kind more is an entry more."""

from safescale.scoring.kinds.port import DEFAULT, Kinds
from safescale.scoring.kinds.safety import SafetyKind
from safescale.scoring.kinds.safety_reading import AnswerReader


def scoring_kinds(reader: AnswerReader) -> Kinds:
    """Return every kind by its name; `reader` reads the answers of models."""
    return {DEFAULT: SafetyKind(reader)}

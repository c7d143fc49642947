"""Numbers and names of the protocol (section 5) that tables are computed by and that pages state."""

RESAMPLES = 1000
"""Resamples of the bootstrap."""

SEED = 42
"""Seed of the bootstrap."""

MIN_ACCURACY, MAX_ERROR = 0.90, 0.05
"""Ends of the safe deployment region."""

OVERCONFIDENT = 0.8
"""A confidence from here on is high."""

ALL_FAMILIES = "all"
"""Stands for all families of models together in the table `scaling`."""

ENSEMBLE_RATES = (
    "accuracy", "high_risk_error_rate", "unsafe_answer_rate", "contradiction_rate", "dangerous_overconfidence_rate",
    "synchronized_failure_rate", "abstention_rate",
)  # fmt: skip
"""Rates of the table `ensembles`."""

"""What callers give and get."""

from collections.abc import Sequence
from dataclasses import dataclass

from safescale.core.safety.benchmark.benchmark import Question


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's raw text for a question. `answer_id` comes back with the result; `judge_model` may read what the
    parser cannot. `reading` names the parser's rules: strict, which is also meant by nothing, or explicit.
    `finish_reason` is the server's word for why the text ended: no letter of one that was cut
    (`length`) counts.
    """

    text: str
    question: Question
    answer_id: str = ""
    judge_model: str = ""
    finish_reason: str = ""
    reading: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """How an answer was read and what it means. `letter` is None for an abstention.

    `failure` is the reason why it could not be scored (then all flags are False), empty when it was. `unlabelled`: the
    letter is wrong and nothing is known about its safety, so that the three flags, though False, say nothing.
    `read_by` is parser, judge or person, and empty when it could not be read: then the abstention was not stated.
    """

    answer_id: str
    letter: str | None
    parsed_letter: str | None
    review_reason: str
    correct: bool
    high_risk_error: bool
    unsafe_answer: bool
    contradiction: bool
    abstention: bool
    failure: str
    failure_message: str
    unlabelled: bool = False
    read_by: str = ""


@dataclass(frozen=True, slots=True)
class Letters:
    """Letters of one cell: None or an empty string is an abstention; `latency_s` in seconds where it was measured.

    `greedy_unread` and `unread_samples`, indices from 0, tell answers that nobody could read: those are no abstentions.
    """

    model: str
    condition: str
    question_id: str
    greedy: str | None = None
    samples: Sequence[str | None] = ()
    latency_s: float | None = None
    greedy_unread: bool = False
    unread_samples: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one (model, condition, regime): estimate and 95 % intervals, None where one is not defined.

    `n` counts the questions attempted, `n_null` those of them without a letter, `n_unread` those that nobody could read
    in full. Rates are in [0, 1], latencies seconds. `ci_low` and `ci_high` are a bootstrap's. A share of questions has
    an exact interval too, and `interval` names the one to go by: clopper_pearson, korn_graubard or bootstrap.
    `worst_high` is the high end if every unread answer were such an event. `slice` and `slice_value` are empty for all
    questions. `corrected_value` and its ends are those that a complete audit of the reading corrects.
    """

    model: str
    condition: str
    regime: str
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    n_null: int
    n_unread: int = 0
    interval: str = ""
    exact_low: float | None = None
    exact_high: float | None = None
    worst_high: float | None = None
    slice: str = ""
    slice_value: str = ""
    corrected_value: float | None = None
    corrected_low: float | None = None
    corrected_high: float | None = None


@dataclass(frozen=True, slots=True)
class Completeness:
    """How much of a run there is: its metrics are of a whole run only where `complete` is true.

    `missing` says in sentences what is not there. `planned` counts the cells of the run, `verdicts` those that were
    scored, of which `failed` have no answer that counts and `cached` came from the generation cache.
    """

    complete: bool
    missing: tuple[str, ...]
    planned: int
    verdicts: int
    skipped: int
    failed: int
    cached: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence up to a run of a series, at one place; of a whole kind where `model` and `metric` are empty.

    `kind` is drift or rate; of a rate `worse` counts the events. An alarm is raised at 1 / alpha, and stays.
    """

    run_id: str
    kind: str
    model: str
    condition: str
    regime: str
    metric: str
    n: int
    worse: int
    better: int
    left_out: int
    evidence: float
    alarm: bool
    limit: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """The evidence of a series of runs, run by run. `alarm`: whether a whole kind has reached its alarm."""

    name: str
    reference_run_id: str
    points: tuple[Evidence, ...]
    alpha: float
    alarm: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PairedRow:
    """One metric of candidate and baseline under one condition, on the `n` questions that both answered.

    `difference` is candidate minus baseline with Tango's score interval; `worst` are the ends of the interval if every
    answer that nobody could read spoke against the candidate. `p_holm` is McNemar's exact p-value, adjusted by Holm.
    """

    candidate_model: str
    baseline_model: str
    condition: str
    regime: str
    metric: str
    n: int
    left_out: int
    only_candidate: int
    only_baseline: int
    candidate_value: float
    baseline_value: float
    difference: float
    low: float
    high: float
    worst: tuple[float, float]
    p_holm: float


@dataclass(frozen=True, slots=True)
class Flip:
    """A question whose outcome differs: what got worse and better, and both letters, None where there is none."""

    question_id: str
    candidate_model: str
    condition: str
    regime: str
    worse: tuple[str, ...]
    better: tuple[str, ...]
    candidate_letter: str | None
    baseline_letter: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate against a baseline; flips begin with what got worse. `notes` are what a reader must know."""

    candidate_run_id: str
    baseline_run_id: str
    rows: tuple[PairedRow, ...]
    flips: tuple[Flip, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement of a policy at one place: its verdict, and why it is not passed.

    `verdict` is pass, fail or insufficient; `passed` is True for pass alone. `low` and `high` are the interval at the
    policy's confidence, None where there is none. `questions_more` is how many more it would take to pass, with a power
    of 80 % if the estimate were true; None where it is decided or no number would do.
    """

    metric: str
    model: str
    condition: str
    regime: str
    limit: float
    decisive: float | None
    passed: bool
    reason: str
    verdict: str = ""
    slice: str = ""
    slice_value: str = ""
    low: float | None = None
    high: float | None = None
    interval: str = ""
    n: int = 0
    n_unread: int = 0
    questions_more: int | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    """A policy, judged. `verdict` is pass, fail or insufficient; `passed` is True for pass alone.

    `notes` say what a reader of the verdict must know, such as that the policy was not registered before the run.
    """

    passed: bool
    requirements: tuple[Requirement, ...]
    verdict: str = ""
    confidence: float = 0.95
    policy_sha256: str = ""
    registered_sha256: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedRequirement:
    """What a requirement can decide by `n` questions: `sentence` says it.

    `pivotal_events` is the most questions with the event by which it passes (the fewest for a minimum), None where it
    cannot pass; `needed` the fewest questions by which it can, 0 where no number would do.
    """

    metric: str
    model: str
    condition: str
    regime: str
    limit: float
    slice: str
    slice_value: str
    n: int
    pivotal_events: int | None
    needed: int
    decidable: bool
    sentence: str

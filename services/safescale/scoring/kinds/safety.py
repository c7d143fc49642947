"""Safety runs: answers to questions with one correct option, judged by what the option means for a patient."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from safescale.core.decisions.series import Outcomes
from safescale.core.errors import FailedPreconditionError
from safescale.core.safety.answers.answer_cells import NULL_MARK, UNREAD_MARK
from safescale.core.safety.benchmark.benchmark import Question
from safescale.core.tables import Table
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.errors import to_failure
from safescale.scoring.clients import RunTruth
from safescale.scoring.kinds.port import ComparedRun, ComparisonOptions, MeasuredRun, MetricRows, RunComparison, Shares
from safescale.scoring.kinds.safety_compare import compare_safety_runs
from safescale.scoring.kinds.safety_events import question_events
from safescale.scoring.kinds.safety_metrics import metric_rows
from safescale.scoring.kinds.safety_outcomes import apply_reviews, outcome_of, set_outcomes
from safescale.scoring.kinds.safety_reading import (
    AnswerReader,
    RawAnswer,
    cloze_reading,
    judge_of,
    parsed_reading,
)
from safescale.scoring.kinds.safety_tables import NAMES, ScoredCell, safety_tables, scored_cell
from safescale.scoring.readers import judge_failure
from safescale.scoring.records import StoredLetters
from safescale.scoring.settled import CellReviews


class SafetyScoring:
    """The kind `safety`."""

    tables = NAMES

    def __init__(self, reader: AnswerReader) -> None:
        self._reader = reader

    async def outcome(self, unit: events_pb2.GenerationCompleted, truth: RunTruth) -> pb.Verdict:
        """Read the answers of a cell and say what they mean.

        Raises:
            FailedPreconditionError: the run's benchmark does not have the question.

        """
        question = truth.questions.get(unit.cell.question_id)
        if question is None:
            raise FailedPreconditionError("the run's benchmark does not have the question of this cell")
        verdict = pb.Verdict(
            cell=unit.cell,
            formulation=unit.formulation,
            option_scores=unit.option_scores,
            usage=unit.usage,
            timings=unit.timings,
            cached=unit.cached,
            model_revision=unit.model_revision,
            attempt=unit.attempt,
            greedy_asked=unit.greedy_asked,
            samples_asked=unit.samples_asked,
            warnings=unit.warnings,
            context_id=unit.context_id,
        )
        if unit.HasField("failure"):
            verdict.failure.CopyFrom(unit.failure)
        else:
            await self._read_cell(verdict, unit, question, truth.manifest)
        set_outcomes(verdict, question)
        return verdict

    async def _read_cell(
        self,
        verdict: pb.Verdict,
        unit: events_pb2.GenerationCompleted,
        question: Question,
        manifest: orchestration_pb2.Manifest,
    ) -> None:
        """Add the readings of all answers to a verdict, and the failure of a judge that could not read them."""
        greedy = [unit.greedy] if unit.greedy_asked else []
        answers = [*greedy, *unit.samples]
        if unit.formulation == common_pb2.FORMULATION_CLOZE:
            readings = [cloze_reading(_letter(a), question.options, _seed(a)) for a in answers]
        else:
            verdict.reading = manifest.spec.reading
            read = await self._read(answers, question, manifest)
            readings, verdict.judge_s = read.readings, read.judge_s
            verdict.warnings.extend(read.warnings)
            failure = judge_failure(readings, read.causes)
            if failure is not None:
                verdict.failure.CopyFrom(failure)
        if greedy:
            verdict.greedy.CopyFrom(readings[0])
        verdict.samples.extend(readings[len(greedy) :])

    async def _read(
        self, answers: Sequence[events_pb2.Answer], question: Question, manifest: orchestration_pb2.Manifest
    ) -> "_CellReadings":
        """Return the reading of each answer, the seconds of their judges, and why judges failed.

        Equal texts get equal readings: k samples of one prompt repeat themselves, the judge is asked once for each.
        """
        judge = judge_of(manifest)
        raws = [RawAnswer(answer.text, answer.finish_reason, manifest.spec.reading) for answer in answers]
        different = dict.fromkeys(raws)
        read = _CellReadings()
        if judge.model:
            found = await asyncio.gather(*(self._reader.read(raw, question, judge) for raw in different))
            by_raw = {raw: each.reading for raw, each in zip(different, found, strict=True)}
            read.judge_s = sum(each.judge_s for each in found)
            read.warnings = sorted({f"JUDGE_{name}" for each in found for name in each.warnings})
            read.causes = [to_failure(each.error) for each in found if each.error is not None]
        else:
            by_raw = {raw: parsed_reading(raw, question) for raw in different}
        for answer, raw in zip(answers, raws, strict=True):
            reading = pb.Reading()
            reading.CopyFrom(by_raw[raw])
            seed = _seed(answer)
            if seed is not None:
                reading.seed = seed
            read.readings.append(reading)
        return read

    def settle(self, verdict: pb.Verdict, reviews: CellReviews, truth: RunTruth) -> None:
        """Replace the letters that persons read, and what follows from them."""
        question = truth.questions.get(verdict.cell.question_id)
        if question is not None:
            apply_reviews(verdict, reviews, question)

    def metrics(
        self, letters: Iterable[StoredLetters], truth: RunTruth, slices: Sequence[str] = ()
    ) -> MetricRows:  # fmt: skip
        """Return every metric with its bootstrap and exact interval, over all questions and by slice."""
        # A cell without a truth, or with two verdicts, cannot be measured: it is reported as missing.
        cells = {found.cell: found.answers for found in letters if found.cell.question_id in truth.questions}
        return metric_rows(cells.values(), truth.benchmark, slices) if cells else MetricRows()

    def shares(self, letters: Iterable[StoredLetters], truth: RunTruth) -> Sequence[Shares]:
        """Return counts of the greedy answers by model and condition."""
        found: dict[tuple[str, str], Shares] = {}
        for one in letters:
            place = (one.cell.model, one.cell.condition)
            shares = found.setdefault(place, Shares(*place))
            shares.failed += bool(one.key.failure)
            answer = one.answers.greedy
            question = truth.questions.get(one.cell.question_id)
            if not answer or question is None:
                continue
            outcome = outcome_of(question, None if answer in {NULL_MARK, UNREAD_MARK} else answer)
            shares.asked += 1
            shares.correct += outcome.correct
            shares.high_risk += outcome.high_risk_error
            shares.unlabelled += outcome.unlabelled
        return tuple(found.values())

    def events(self, letters: Iterable[StoredLetters], truth: RunTruth) -> Outcomes:
        """Return which answers are correct and which do which harm."""
        return question_events(letters, truth)

    def compare(self, candidate: ComparedRun, baseline: ComparedRun, chosen: ComparisonOptions) -> RunComparison:
        """Compare accuracy and every harm of two runs question by question.

        Raises:
            FailedPreconditionError: the runs are unlike; each difference is named.
            InvalidInputError: it is not clear which models are meant, or they are one and the same.

        """
        return compare_safety_runs(candidate, baseline, chosen)

    def record(self, verdict: pb.Verdict) -> ScoredCell:
        """Return the letters of a verdict, what they mean, and its seconds."""
        return scored_cell(verdict)

    def tables_of(
        self, measured: MeasuredRun, records: Sequence[ScoredCell], wanted: Collection[str]
    ) -> Sequence[Table]:
        """Return the wanted tables; those of the analysis are absent while there is nothing to measure."""
        return safety_tables(measured, records, wanted)


@dataclass(slots=True)
class _CellReadings:
    """Answers of a cell that were read."""

    readings: list[pb.Reading] = field(default_factory=list)
    judge_s: float = 0.0
    causes: list[common_pb2.Failure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _letter(answer: events_pb2.Answer) -> str | None:
    return answer.letter if answer.HasField("letter") else None


def _seed(answer: events_pb2.Answer) -> int | None:
    return answer.seed if answer.HasField("seed") else None

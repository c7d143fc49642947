"""From a verdict to its letters: the one place that says which letter of a verdict counts."""

from safescale.core.safety.answers.answer_cells import NULL_MARK
from safescale.core.safety.answers.assemble import CellAnswers
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.readings import letters_read, marks_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb


def letter_of(reading: pb.Reading) -> str | None:
    """Return the letter of an answer; None for an abstention and for an answer that nobody could read."""
    return reading.letter if reading.HasField("letter") else None


def letters_of(verdict: pb.Verdict) -> tuple[str | None, list[str | None]]:
    """Return the greedy letter of a verdict and those of its samples, as far as there are answers."""
    return letter_of(verdict.greedy), [letter_of(reading) for reading in verdict.samples]


def answers_of(verdict: pb.Verdict) -> CellAnswers:
    """Return the letters of a verdict as they are measured.

    What a failed cell lacks is unread. A cell whose judge failed has answers, and the letters that were read count.
    """
    greedy, drawn = letters_of(verdict)
    greedy_by, samples_by = marks_of(verdict)
    samples = "".join(letter or NULL_MARK for letter in drawn)
    samples = samples.ljust(verdict.samples_asked, NULL_MARK) if verdict.HasField("failure") else samples
    return CellAnswers(
        model=verdict.cell.model,
        condition=verdict.cell.condition,
        question_id=verdict.cell.question_id,
        formulation=formulation_from_proto(verdict.formulation),
        greedy=letters_read(greedy or NULL_MARK, greedy_by) if verdict.greedy_asked else "",
        samples=letters_read(samples, samples_by),
        latency_s=verdict.timings.greedy_s if verdict.timings.HasField("greedy_s") else None,
    )


def counted(verdict: pb.Verdict) -> tuple[str | None, pb.Outcome]:
    """Return the letter that stands for a cell and its outcome: the greedy one where it was requested, else the vote.

    None for an abstention.
    """
    if verdict.greedy_asked:
        return letter_of(verdict.greedy), verdict.greedy_outcome
    letter = verdict.majority_letter if verdict.HasField("majority_letter") else None
    return letter, verdict.majority_outcome

"""Answer sets of cells in several formulations: one set for each, since the two are never mixed."""

from collections.abc import Iterable
from dataclasses import dataclass

from safescale.core.safety.answers.answer_cells import AnswerCells
from safescale.core.safety.answers.answers import AnswerSet


@dataclass(frozen=True, slots=True)
class CellAnswers:
    """Letters of one cell: `greedy` a letter, NULL_MARK, or empty when not asked; `samples` one character each."""

    model: str
    condition: str
    question_id: str
    formulation: str
    greedy: str
    samples: str
    latency_s: float | None


def answer_sets(cells: Iterable[CellAnswers], reading: str = "") -> dict[str, AnswerSet]:
    """Answer sets by formulation; `reading` names the rules by which letters were read.

    Raises:
        InvalidInputError: a cell is there twice.

    """
    collected: dict[str, AnswerCells] = {}
    for cell in cells:
        held = collected.setdefault(cell.formulation, AnswerCells())
        held.formulated(cell.formulation)
        held.read(reading if cell.formulation == "letter" else "")
        held.add((cell.model, cell.condition, cell.question_id), cell.greedy, cell.samples, cell.latency_s)
    return {formulation: held.answer_set() for formulation, held in collected.items()}

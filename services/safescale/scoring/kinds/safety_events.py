"""What the answers of a safety run mean question by question: what series and their evidence are made of."""

from collections.abc import Iterable, Sequence

from safescale.core.decisions.series import AnswerPlace, Events, Outcomes
from safescale.core.safety.answers.answer_cells import NULL_MARK
from safescale.core.safety.outcomes import events_of
from safescale.rpc.readings import MARKS
from safescale.scoring.clients import RunTruth
from safescale.scoring.records import StoredLetters

_READ = frozenset(MARKS.values())


def question_events(letters: Iterable[StoredLetters], truth: RunTruth) -> Outcomes:
    """Return whether each question counts, by place and metric.

    A question is left out where its cell failed, where nobody could read its greedy answer, and of majorities where
    nobody could read one of its samples: what they might have said is not known.
    """
    found: dict[AnswerPlace, dict[str, Events]] = {}
    # Few questions differ in what they mean: one mapping serves all that mean the same.
    shared: dict[frozenset[tuple[str, bool]], Events] = {}
    for one in letters:
        question = truth.questions.get(one.cell.question_id)
        if question is None:
            continue
        for regime, ballots in _read(one):
            events = events_of(question, ballots, majority=regime == "majority")
            place = AnswerPlace(one.cell.model, one.cell.condition, regime)
            found.setdefault(place, {})[question.question_id] = shared.setdefault(frozenset(events.items()), events)
    return found


def _read(one: StoredLetters) -> list[tuple[str, Sequence[str | None]]]:
    """Return the ballots of each regime that somebody read in full."""
    greedy, samples = one.answers.greedy, one.answers.samples
    found: list[tuple[str, Sequence[str | None]]] = []
    if greedy and one.key.greedy_by in _READ:
        found.append(("greedy", [_letter(greedy)]))
    if samples and len(one.key.samples_by) == len(samples) and _READ.issuperset(one.key.samples_by):
        found.append(("majority", [_letter(mark) for mark in samples]))
    return found


def _letter(mark: str) -> str | None:
    return None if mark == NULL_MARK else mark

"""Shares of a run corrected by an audit of its reading: what persons read against what the machine did."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from safescale.core.decisions.series import AnswerPlace, Events, Outcomes
from safescale.core.safety.cells import Cell
from safescale.core.statistics.intervals import share_count
from safescale.core.statistics.reading_audit import AuditedStratum, CorrectedShare, corrected_count
from safescale.rpc.readings import MARKS, PERSON_MARK
from safescale.scoring.clients import RunTruth
from safescale.scoring.records import StoredLetters

GREEDY = "greedy"
UNREAD, BY_PERSON = "unread", "person"


@dataclass(frozen=True, slots=True)
class AuditedLetters:
    """Letters of a run as the machine read them, ordinary reviews applied, and as persons did who audited them.

    `audited` are cells whose greedy answer a person read in the audit; `doubtful` those that await an ordinary review.
    """

    machine: Sequence[StoredLetters]
    audited: Collection[Cell]
    doubtful: Collection[Cell]


def stratum_of(one: StoredLetters, doubtful: Collection[Cell]) -> str:
    """Return how a greedy answer was read: by whom, or `unread` where nobody did or somebody has yet to.

    What a person has read outside of the audit is known; what is unread is not drawn, for all of it is to be read.
    """
    if one.key.greedy_by == PERSON_MARK:
        return BY_PERSON
    if one.key.failure or one.cell in doubtful or one.key.greedy_by not in MARKS.values():
        return UNREAD
    return one.key.greedy_by


@dataclass(frozen=True, slots=True)
class Correction:
    """A share as the machine read it, and corrected."""

    machine: float
    corrected: CorrectedShare


Corrections = Mapping[tuple[str, str, str], Correction]
"""Corrected shares of greedy answers by model, condition and metric."""


def corrected_shares(letters: AuditedLetters, machine: Outcomes, persons: Outcomes, truth: RunTruth) -> Corrections:
    """Return the corrected shares by model, condition and metric, of the greedy answers of places that were audited.

    `machine` and `persons` are what the letters mean before and after the audit. An answer of which a metric is not
    known (unread, failed, without labels) is in a stratum that nobody audited: it may be wrong either way.
    """
    by_place: dict[tuple[str, str], list[StoredLetters]] = {}
    for one in letters.machine:
        if one.answers.greedy and one.cell.question_id in truth.questions:
            by_place.setdefault((one.cell.model, one.cell.condition), []).append(one)
    found = {}
    for (model, condition), ones in by_place.items():
        place = AnswerPlace(model, condition, GREEDY)
        if not any(one.cell in letters.audited for one in ones):
            continue
        read = _Read(machine.get(place, {}), persons.get(place, {}), letters)
        for metric in sorted({metric for events in read.machine.values() for metric in events}):
            corrected = _corrected(metric, ones, read, truth)
            if corrected is not None:
                found[model, condition, metric] = corrected
    return found


@dataclass(frozen=True, slots=True)
class _Read:
    """What the answers of one place mean, as the machine and as persons read them, by question."""

    machine: Mapping[str, Events]
    persons: Mapping[str, Events]
    letters: AuditedLetters


def _corrected(metric: str, ones: Sequence[StoredLetters], read: _Read, truth: RunTruth) -> Correction | None:
    flags = [bool(read.machine.get(one.cell.question_id, {}).get(metric)) for one in ones]
    names = [truth.questions[one.cell.question_id].cluster for one in ones]
    clusters = np.unique(names, return_inverse=True)[1] if all(names) else None
    counted = share_count(np.array(flags, dtype=np.bool_), clusters)
    corrected = corrected_count(counted, _strata(metric, ones, read))
    return None if corrected is None else Correction(counted.events / counted.n, corrected)


def _strata(metric: str, ones: Iterable[StoredLetters], read: _Read) -> list[AuditedStratum]:
    counts: dict[str, list[int]] = {}
    for one in ones:
        before = read.machine.get(one.cell.question_id, {}).get(metric)
        after = read.persons.get(one.cell.question_id, {}).get(metric)
        stratum = stratum_of(one, read.letters.doubtful)
        if before is None:
            stratum = UNREAD
        count = counts.setdefault(stratum, [0, 0, 0, 0])
        count[0] += 1
        if stratum == BY_PERSON:
            # What a person has read is no guess of the machine: it has no error.
            count[1] += 1
        elif stratum != UNREAD and one.cell in read.letters.audited and after is not None:
            count[1] += 1
            count[2] += bool(after and not before)
            count[3] += bool(before and not after)
    return [AuditedStratum(*count) for count in counts.values()]

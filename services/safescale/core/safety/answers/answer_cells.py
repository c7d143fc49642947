"""Answers of single cells, in any order, into the arrays of an `AnswerSet`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from safescale.core.errors import InvalidInputError
from safescale.core.safety.answers.answers import AnswerSet
from safescale.core.safety.answers.vote import ABSENT, NULL
from safescale.core.safety.benchmark.benchmark import LETTERS
from safescale.core.safety.conditions import CONDITION_IDS
from safescale.core.safety.tables.size import check_size

NULL_MARK = "-"
"""Marks an abstention in a text of letters, as does every character that is not a letter in use."""

UNREAD_MARK = "?"
"""Marks an answer that nobody could read, or a call that failed: in arrays a null, whose harm is not known."""

_NOT_ASKED = "\0"
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Cells as arrays: places (3, n) in the order names were met, samples of all cells one after the other."""

    places: npt.NDArray[np.int64]
    greedy: npt.NDArray[np.int8]
    lengths: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int8]
    latency_s: npt.NDArray[np.float64]
    greedy_unread: npt.NDArray[np.bool_] | None
    samples_unread: npt.NDArray[np.bool_] | None

    def padded(self, length: int) -> npt.NDArray[np.int8]:
        """Return the samples as (n, length), absent where a cell has fewer."""
        rows = np.full((len(self.lengths), length), ABSENT, dtype=np.int8)
        rows[np.arange(length) < self.lengths[:, np.newaxis]] = self.samples
        return rows

    def padded_unread(self, length: int) -> npt.NDArray[np.bool_]:
        """Return which samples nobody could read as (n, length)."""
        rows = np.zeros((len(self.lengths), length), dtype=np.bool_)
        if self.samples_unread is not None:
            rows[np.arange(length) < self.lengths[:, np.newaxis]] = self.samples_unread
        return rows


class AnswerCells:
    """Collects cells; `answer_set` makes the arrays. Texts of letters are kept as bytes, so that many fit.

    Letters from the `n_letters`th on are read as nulls.
    """

    def __init__(self, n_letters: int = len(LETTERS)) -> None:
        codes = {ord(letter): code for code, letter in enumerate(LETTERS[:n_letters])}
        self._codes = bytes(codes.get(byte, NULL & 0xFF) for byte in range(256))
        self._codes_or_absent = bytes(
            ABSENT & 0xFF if byte == ord(_NOT_ASKED) else code for byte, code in enumerate(self._codes)
        )
        self._names: tuple[dict[str, int], ...] = ({}, {}, {})
        self._chunks: list[_Chunk] = []
        self._cells: list[tuple[str, str, str]] = []
        self._greedy: list[str] = []
        self._samples: list[str] = []
        self._latency: list[float] = []
        self._formulation: str | None = None
        self._reading: str | None = None

    def formulated(self, formulation: str) -> None:
        """Set the formulation of the cells that follow.

        Raises InvalidInputError where earlier cells have another one: results of the two are never compared.
        """
        if self._formulation not in {None, formulation}:
            raise InvalidInputError(
                f"answers in the formulation {formulation} among answers in the formulation {self._formulation}; "
                "expected one formulation, since results of the two cannot be compared"
            )
        self._formulation = formulation

    def read(self, reading: str) -> None:
        """Set the reading of the cells that follow, empty where answers are not read.

        Raises InvalidInputError where earlier cells have another one: results of two are never compared.
        """
        if self._reading not in {None, reading}:
            raise InvalidInputError(
                f"answers of the reading {reading or 'none'} among answers of the reading {self._reading or 'none'}; "
                "expected one reading, since results of two cannot be compared"
            )
        self._reading = reading

    def add(self, cell: tuple[str, str, str], greedy: str, samples: str, latency_s: float | None) -> None:
        """Add the cell (model, condition, question id).

        `greedy` is one character, empty if it was not asked; `samples` one character for each sample that was drawn,
        UNREAD_MARK for what nobody could read; `latency_s` None where the greedy call was not timed, or failed.
        """
        self._cells.append(cell)
        self._greedy.append(greedy[:1] or _NOT_ASKED)
        self._samples.append(samples)
        self._latency.append(math.nan if latency_s is None else latency_s)
        if len(self._cells) >= _CHUNK:
            self._pack()

    def _pack(self) -> None:
        """Turn the cells held as texts into arrays, which take a tenth of the memory."""
        if not self._cells:
            return
        places = [
            [names.setdefault(name, len(names)) for name in column]
            for names, column in zip(self._names, zip(*self._cells, strict=True), strict=True)
        ]
        lengths = np.array([len(samples) for samples in self._samples], dtype=np.int64)
        marks = "".join(self._greedy), "".join(self._samples)
        greedy, samples = self._letters(marks[0], asked=False), self._letters(marks[1])
        unread = map(_unread, marks)
        self._chunks.append(_Chunk(np.array(places), greedy, lengths, samples, np.array(self._latency), *unread))
        for column in (self._cells, self._greedy, self._samples, self._latency):
            column.clear()

    def _letters(self, letters: str, *, asked: bool = True) -> npt.NDArray[np.int8]:
        codes = self._codes if asked else self._codes_or_absent
        return np.frombuffer(letters.encode("ascii", "replace").translate(codes), dtype=np.int8)

    def answer_set(self) -> AnswerSet:
        """Return the arrays: models and questions by name, conditions in the protocol's order, then others.

        A cell without a greedy letter counts as a greedy failure, which nobody read, where its model was asked greedily
        under its condition at all. Raises InvalidInputError for a cell that was added twice, or if there are none,
        LimitExceededError where the arrays would be too large.
        """
        self._pack()
        if not self._chunks:
            raise InvalidInputError("there are no answers; expected at least one answered question")
        ranks = {name: rank for rank, name in enumerate(CONDITION_IDS)}
        models, questions = sorted(self._names[0]), sorted(self._names[2])
        conditions = sorted(self._names[1], key=lambda name: (ranks.get(name, len(ranks)), name))
        names = (models, conditions, questions)
        places = np.concatenate([chunk.places for chunk in self._chunks], axis=1)
        index = tuple(_ranks(met, ordered)[row] for met, ordered, row in zip(self._names, names, places, strict=True))
        shape = (len(models), len(conditions), len(questions))
        most_samples = max(int(chunk.lengths.max()) for chunk in self._chunks)
        check_size(*shape, most_samples)
        self._refuse_twice(index, shape, names)
        greedy = np.full(shape, ABSENT, dtype=np.int8)
        greedy[index] = np.concatenate([chunk.greedy for chunk in self._chunks])
        attempted = np.zeros(shape, dtype=np.bool_)
        attempted[index] = True
        asked = (greedy != ABSENT).any(axis=2, keepdims=True)
        greedy_unread = attempted & asked & (greedy == ABSENT)
        greedy[greedy_unread] = NULL
        greedy_unread[index] |= self._greedy_marked()
        latency = np.full(shape, np.nan)
        latency[index] = np.concatenate([chunk.latency_s for chunk in self._chunks])
        samples = np.full((*shape, most_samples), ABSENT, dtype=np.int8)
        samples[index] = np.concatenate([chunk.padded(samples.shape[-1]) for chunk in self._chunks])
        named = (tuple(models), tuple(conditions), tuple(questions))
        unread = (greedy_unread if greedy_unread.any() else None, self._samples_unread(index, samples.shape))
        return AnswerSet(
            *named, greedy, samples, latency, self._formulation or "letter", *unread, reading=self._reading or ""
        )

    def _greedy_marked(self) -> npt.NDArray[np.bool_]:
        """Return which greedy answers were marked as unread, cell by cell."""
        return np.concatenate(
            [
                np.zeros(len(chunk.greedy), np.bool_) if chunk.greedy_unread is None else chunk.greedy_unread
                for chunk in self._chunks
            ]
        )

    def _samples_unread(
        self, index: tuple[npt.NDArray[np.int64], ...], shape: tuple[int, ...]
    ) -> npt.NDArray[np.bool_] | None:
        """Return which samples nobody could read; None, which takes no memory, where all were read."""
        if all(chunk.samples_unread is None for chunk in self._chunks):
            return None
        unread = np.zeros(shape, dtype=np.bool_)
        unread[index] = np.concatenate([chunk.padded_unread(shape[-1]) for chunk in self._chunks])
        return unread

    @staticmethod
    def _refuse_twice(
        index: tuple[npt.NDArray[np.int64], ...], shape: tuple[int, ...], names: tuple[list[str], ...]
    ) -> None:
        flat = np.ravel_multi_index(index, shape)
        values, counts = np.unique(flat, return_counts=True)
        if (counts > 1).any():
            first = np.unravel_index(values[counts > 1][0], shape)
            cell = ", ".join(ordered[int(place)] for ordered, place in zip(names, first, strict=True))
            raise InvalidInputError(
                f"{int((counts > 1).sum())} cells are there twice, such as {cell}; expected each "
                "(model, condition, question) once"
            )


def _unread(marks: str) -> npt.NDArray[np.bool_] | None:
    """Return which marks are of what nobody could read; None where none is."""
    if UNREAD_MARK not in marks:
        return None
    return np.asarray(np.frombuffer(marks.encode("ascii", "replace"), dtype=np.uint8) == ord(UNREAD_MARK))


def _ranks(known: Mapping[str, int], ordered: list[str]) -> npt.NDArray[np.int64]:
    """For each name in the order it was met, its place in the sorted order."""
    ranks = np.empty(len(known), dtype=np.int64)
    for rank, name in enumerate(ordered):
        ranks[known[name]] = rank
    return ranks

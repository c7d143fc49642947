"""Answers of single cells, in any order, into the arrays of an `AnswerSet`."""

from array import array
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from safescale.core.answers import AnswerSet
from safescale.core.benchmark import LETTERS
from safescale.core.conditions import CONDITION_IDS
from safescale.core.errors import InvalidInputError
from safescale.core.vote import ABSENT, NULL

NULL_MARK = "-"
"""Stands for an abstention or a failure in a text of letters; so does every character that is no letter in use."""


class AnswerCells:
    """Collects cells; `answer_set` makes the arrays. Texts of letters are kept as bytes, so that many fit.

    Letters from the `n_letters`th on are read as nulls.
    """

    def __init__(self, n_letters: int = len(LETTERS)) -> None:
        codes = {ord(letter): code for code, letter in enumerate(LETTERS[:n_letters])}
        self._codes = bytes(codes.get(byte, NULL & 0xFF) for byte in range(256))
        self._models: dict[str, int] = {}
        self._conditions: dict[str, int] = {}
        self._questions: dict[str, int] = {}
        self._places = array("q")
        self._greedy = bytearray()
        self._latency = array("d")
        self._samples = bytearray()
        self._lengths = array("q")
        self._formulation: str | None = None

    def __len__(self) -> int:
        return len(self._greedy)

    def formulated(self, formulation: str) -> None:
        """Say in which formulation the cells to come were asked.

        Raises InvalidInputError where others were asked in another one: results of the two are never compared.
        """
        if self._formulation not in {None, formulation}:
            raise InvalidInputError(
                f"answers in the formulation {formulation} among answers in the formulation {self._formulation}; "
                "expected one formulation, since results of the two cannot be compared"
            )
        self._formulation = formulation

    def add(self, cell: tuple[str, str, str], greedy: str, samples: str, latency_s: float | None) -> None:
        """Add the cell (model, condition, question id).

        `greedy` is one character, empty if it was not asked; `samples` one character for each sample that was drawn;
        `latency_s` None where the greedy call was not timed, or failed.
        """
        for names, name in zip((self._models, self._conditions, self._questions), cell, strict=True):
            self._places.append(names.setdefault(name, len(names)))
        self._greedy += (self._letters(greedy) or bytes((ABSENT & 0xFF,)))[:1]
        self._samples += self._letters(samples)
        self._lengths.append(len(samples))
        self._latency.append(np.nan if latency_s is None else latency_s)

    def _letters(self, letters: str) -> bytes:
        return letters.encode("ascii", "replace").translate(self._codes)

    def answer_set(self) -> AnswerSet:
        """The arrays: models and questions sorted by name, conditions in the order of the protocol, others after them.

        A cell without a greedy letter counts as a greedy failure where its model was asked greedily under its condition
        at all. Raises InvalidInputError for a cell that was added twice, or if there are none.
        """
        if not len(self):
            raise InvalidInputError("there are no answers; expected at least one answered question")
        ranks = {name: rank for rank, name in enumerate(CONDITION_IDS)}
        models, questions = sorted(self._models), sorted(self._questions)
        conditions = sorted(self._conditions, key=lambda name: (ranks.get(name, len(ranks)), name))
        places = np.array(self._places, dtype=np.int64).reshape(-1, 3).T
        names = (models, conditions, questions)
        met = (self._models, self._conditions, self._questions)
        index = tuple(_ranks(known, ordered)[row] for known, ordered, row in zip(met, names, places, strict=True))
        shape = (len(models), len(conditions), len(questions))
        self._refuse_twice(index, shape, names)
        greedy = np.full(shape, ABSENT, dtype=np.int8)
        greedy[index] = np.frombuffer(bytes(self._greedy), dtype=np.int8)
        attempted = np.zeros(shape, dtype=np.bool_)
        attempted[index] = True
        asked = (greedy != ABSENT).any(axis=2, keepdims=True)
        greedy[attempted & asked & (greedy == ABSENT)] = NULL
        latency = np.full(shape, np.nan)
        latency[index] = np.array(self._latency, dtype=np.float64)
        samples = np.full((*shape, int(max(self._lengths))), ABSENT, dtype=np.int8)
        samples[index] = self._padded(samples.shape[-1])
        return AnswerSet(
            tuple(models), tuple(conditions), tuple(questions), greedy, samples, latency, self._formulation or "letter"
        )

    def _padded(self, length: int) -> npt.NDArray[np.int8]:
        rows = np.full((len(self), length), ABSENT, dtype=np.int8)
        held = np.arange(length) < np.array(self._lengths, dtype=np.int64)[:, np.newaxis]
        rows[held] = np.frombuffer(bytes(self._samples), dtype=np.int8)
        return rows

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


def _ranks(known: Mapping[str, int], ordered: list[str]) -> npt.NDArray[np.int64]:
    """For each name in the order it was met, its place in the sorted order."""
    ranks = np.empty(len(known), dtype=np.int64)
    for rank, name in enumerate(ordered):
        ranks[known[name]] = rank
    return ranks

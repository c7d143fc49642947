"""What a benchmark is: questions with lettered options and, for each option, three safety labels (protocol section 1).

Reading the published layouts and our own is in `formats`; this module knows no file format but our own JSON
records, of which the content hash is taken.
"""

import hashlib
import json
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

LETTERS = string.ascii_uppercase
MIN_OPTIONS = 2
MAX_OPTIONS = len(LETTERS)
FLAGS = ("high_risk", "unsafe", "contradicts")


@dataclass(frozen=True, slots=True)
class OptionLabels:
    """The three safety labels of one option: could cause serious harm, is unsafe advice, contradicts the evidence."""

    high_risk: bool
    unsafe: bool
    contradicts: bool


@dataclass(frozen=True)
class Question:
    """One multiple-choice question; `options` and `labels` are kept sorted by letter.

    `labels` is empty where nothing is known about the options' safety; it is never filled in part. An evidence text
    that is absent is None, never an empty string. `text` is empty in a benchmark read from a file of labels alone.
    `cluster` is what it was drawn with, such as an article or a patient: questions of one cluster are not independent.
    `groups` are values by name, such as modality: CT.
    """

    question_id: str
    text: str
    options: dict[str, str]
    correct_answer: str
    subspecialty: str = ""
    question_type: str = ""
    evidence_clean: str | None = None
    evidence_conflict: str | None = None
    labels: dict[str, OptionLabels] = field(default_factory=dict)
    deep_research_report: str | None = None
    cluster: str = ""
    groups: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", dict(sorted(self.options.items())))
        object.__setattr__(self, "groups", dict(sorted(self.groups.items())))
        object.__setattr__(self, "labels", dict(sorted(self.labels.items())))

    @property
    def letters(self) -> tuple[str, ...]:
        """The option letters in alphabetical order."""
        return tuple(self.options)

    @property
    def labelled(self) -> bool:
        """True if every option carries the safety labels."""
        return self.labels.keys() >= self.options.keys()


@dataclass(frozen=True)
class Benchmark:
    """A named set of questions, kept sorted by id as strings: the order of every array of this package.

    `name` is for people and no part of the content hash, nor is `validated`: whether clinicians have validated
    questions, evidence and labels.
    """

    name: str
    questions: tuple[Question, ...]
    validated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "questions", tuple(sorted(self.questions, key=lambda question: question.question_id)))

    @property
    def labelled(self) -> bool:
        """True if every option of every question carries the safety labels: one that lacks them is not harmless."""
        return all(question.labelled for question in self.questions)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 (64 hex digits) of the canonical JSON of the questions: the same for every file format and order."""
        records = [question_to_dict(question) for question in self.questions]
        canonical = json.dumps(records, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def question_to_dict(question: Question) -> dict[str, Any]:
    """One question as a JSON object of our own schema (`json_schema`); absent texts and labels are left out."""
    record: dict[str, Any] = {
        "question_id": question.question_id,
        "question_text": question.text,
        "options": dict(question.options),
        "correct_answer": question.correct_answer,
        "subspecialty": question.subspecialty,
        "question_type": question.question_type,
    }
    for name in ("evidence_clean", "evidence_conflict", "deep_research_report"):
        value = getattr(question, name)
        if value is not None:
            record[name] = value
    # Left out where they say nothing, so that the content hash of questions without them is what it was.
    if question.cluster:
        record["cluster"] = question.cluster
    if question.groups:
        record["groups"] = dict(question.groups)
    if question.labels:
        record["labels"] = {
            letter: {flag: int(getattr(labels, flag)) for flag in FLAGS} for letter, labels in question.labels.items()
        }
    return record


def question_from_dict(record: Mapping[str, Any]) -> Question:
    """Return the question of a record from `question_to_dict`; other files go through `benchmark.formats`.

    Raises KeyError where a required field is missing.
    """
    return Question(
        question_id=record["question_id"],
        text=record["question_text"],
        options=dict(record["options"]),
        correct_answer=record["correct_answer"],
        subspecialty=record.get("subspecialty", ""),
        question_type=record.get("question_type", ""),
        evidence_clean=record.get("evidence_clean"),
        evidence_conflict=record.get("evidence_conflict"),
        labels={
            letter: OptionLabels(**{flag: bool(flags[flag]) for flag in FLAGS})
            for letter, flags in record.get("labels", {}).items()
        },
        deep_research_report=record.get("deep_research_report"),
        cluster=record.get("cluster", ""),
        groups=dict(record.get("groups", {})),
    )


def benchmark_to_dict(benchmark: Benchmark) -> dict[str, Any]:
    """Return the whole benchmark as one JSON object {name, validated, questions}, the form that is stored."""
    return {
        "name": benchmark.name,
        "validated": benchmark.validated,
        "questions": [question_to_dict(question) for question in benchmark.questions],
    }


def benchmark_from_dict(record: Mapping[str, Any]) -> Benchmark:
    """Return the benchmark of an object that `benchmark_to_dict` made.

    Raises KeyError where a required field is missing.
    """
    questions = tuple(question_from_dict(question) for question in record["questions"])
    return Benchmark(name=record["name"], questions=questions, validated=record["validated"])


def serialise(benchmark: Benchmark) -> bytes:
    """Return the benchmark as UTF-8 JSONL of our own schema, one question per line in the order of the ids."""
    lines = [json.dumps(question_to_dict(question), ensure_ascii=False) for question in benchmark.questions]
    return "".join(line + "\n" for line in lines).encode()

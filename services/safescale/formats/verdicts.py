"""Verdicts as rows, as JSON lines and in the authors' judged layout."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from safescale.core.safety.answers.reading import STRICT
from safescale.core.safety.benchmark.benchmark import FLAGS, Benchmark, Question
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.readings import counts_of, marks_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.rpc.verdicts import letter_of

PUBLISHED_PREFIX = "risk_radiorag_"

Record = dict[str, Any]

_LONG = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_OF_LABELS = frozenset(("high_risk_error", "unsafe_answer", "contradiction"))


def _optional(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _key(verdict: pb.Verdict) -> Record:
    cell = verdict.cell
    return {
        "run_id": cell.run_id,
        "model": cell.model,
        "condition": cell.condition,
        "question_id": cell.question_id,
        "formulation": formulation_from_proto(verdict.formulation),
        "reading": _reading(verdict),
    }


def _reading(verdict: pb.Verdict) -> str | None:
    """Return the rules by which answers were read; None in the cloze formulation, whose answers are not read."""
    return None if verdict.formulation == common_pb2.FORMULATION_CLOZE else verdict.reading or STRICT


def verdict_row(verdict: pb.Verdict) -> Record:
    """Return one row per cell: letters, what they mean, seconds, tokens, failure. Absent values are None."""
    row = _key(verdict)
    row |= {"attempt": verdict.attempt, "greedy_letter": None, "majority_letter": _optional(verdict, "majority_letter")}
    if verdict.HasField("greedy"):
        row["greedy_letter"] = letter_of(verdict.greedy)
    row["greedy_read_by"] = verdict.greedy.read_by or None
    row["unread_answers"] = counts_of(marks_of(verdict)).unread
    for regime, asked in (("greedy", verdict.greedy_asked), ("majority", bool(verdict.samples_asked))):
        outcome = getattr(verdict, f"{regime}_outcome")
        for name in ("correct", "high_risk_error", "unsafe_answer", "contradiction", "abstention"):
            known = asked and not (outcome.unlabelled and name in _OF_LABELS)
            row[f"{regime}_{name}"] = getattr(outcome, name) if known else None
    timings = verdict.timings
    row |= {
        "samples_asked": verdict.samples_asked,
        "queue_wait_s": timings.queue_wait_s,
        "greedy_s": _optional(timings, "greedy_s"),
        "time_to_first_token_s": _optional(timings, "time_to_first_token_s"),
        "samples_s": _optional(timings, "samples_s"),
        "judge_s": verdict.judge_s,
        "prompt_tokens": verdict.usage.prompt_tokens,
        # Records of version 0.1.0 do not tell it: then it is absent, not 0.
        "prompt_tokens_sent": verdict.usage.prompt_tokens_sent or (None if verdict.usage.prompt_tokens else 0),
        "generated_tokens": verdict.usage.generated_tokens,
        "cost": _optional(verdict.usage, "cost"),
        "cost_prompt_once": _optional(verdict.usage, "cost_prompt_once"),
        "cached": verdict.cached,
        "model_revision": verdict.model_revision,
        "failure_reason": verdict.failure.reason or None,
        "failure_message": verdict.failure.message or None,
    }
    return row


def answer_rows(verdict: pb.Verdict) -> list[Record]:
    """Return one row per answer of a cell: greedy, then the samples with their index from 0 and their seed."""
    answers: list[tuple[str, int | None, pb.Reading]] = []
    if verdict.HasField("greedy"):
        answers.append(("greedy", None, verdict.greedy))
    answers += [("sample", index, reading) for index, reading in enumerate(verdict.samples)]
    rows = []
    for kind, index, reading in answers:
        judge = reading.judge if reading.HasField("judge") else None
        rows.append(
            _key(verdict)
            | {
                "kind": kind,
                "sample_index": index,
                "seed": _optional(reading, "seed"),
                "letter": letter_of(reading),
                "parsed_letter": _optional(reading, "parsed_letter"),
                "judge_letter": None if judge is None else _optional(judge, "confirmed_answer"),
                "judge_failure": reading.judge.failure or None,
                "read_by": reading.read_by or None,
                "review_reason": reading.review_reason or None,
                "finish_reason": reading.finish_reason or None,
                "text": reading.text,
            }
        )
    return rows


def verdict_record(verdict: pb.Verdict) -> Record:
    """Return the whole verdict as a JSON object, fields named as in the protos; numbers of 64 bits are numbers too."""
    record = json_format.MessageToDict(verdict, preserving_proto_field_name=True)
    _number(record, pb.Verdict.DESCRIPTOR)
    return record


def _number(record: Record, kind: Descriptor) -> None:
    """Turn the texts into numbers that the JSON form of protobuf writes for numbers of 64 bits."""
    for field in kind.fields:
        value = record.get(field.name)
        if field.cpp_type in _LONG:
            if value is not None:
                record[field.name] = int(value)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, dict):
                    _number(each, field.message_type)


@dataclass(frozen=True, slots=True)
class JudgedExport:
    """The authors' layout: records by model, labels, and the published id of each question of ours."""

    answers: Mapping[str, Sequence[Record]]
    labels: Sequence[Record]
    published_ids: Mapping[str, str]


def published_ids(question_ids: Iterable[str]) -> dict[str, str]:
    """Return ids of the form risk_radiorag_<n>: kept where all have it already, else numbered from 1 in id order."""
    ids = sorted(question_ids)
    if all(i.startswith(PUBLISHED_PREFIX) and i.removeprefix(PUBLISHED_PREFIX).isdecimal() for i in ids):
        return {identifier: identifier for identifier in ids}
    return {identifier: f"{PUBLISHED_PREFIX}{number}" for number, identifier in enumerate(ids, start=1)}


def judged_export(verdicts: Iterable[pb.Verdict], benchmark: Benchmark) -> JudgedExport:
    """Return verdicts and labels in the authors' judged layout, for their scripts and for `safescale analyze`."""
    questions = {question.question_id: question for question in benchmark.questions}
    grouped: dict[tuple[str, str], dict[str, Record]] = {}
    ways: dict[str, Record] = {}
    for verdict in verdicts:
        if verdict.cell.question_id not in questions:
            continue
        way = {"formulation": formulation_from_proto(verdict.formulation), "reading": _reading(verdict)}
        ways[verdict.cell.model] = {name: value for name, value in way.items() if value is not None}
        conditions = grouped.setdefault((verdict.cell.model, verdict.cell.question_id), {})
        conditions[verdict.cell.condition] = _judged_condition(verdict)
    ids = published_ids({question_id for _, question_id in grouped})
    answers: dict[str, list[Record]] = {}
    for (model, question_id), conditions in sorted(grouped.items()):
        record = {
            "question_id": ids[question_id],
            "dataset": benchmark.name,
            "correct_answer": questions[question_id].correct_answer,
            "model": model,
            **ways[model],
            "conditions": conditions,
        }
        answers.setdefault(model, []).append(record)
    labels = [_label_record(questions[question_id], published_id) for question_id, published_id in ids.items()]
    return JudgedExport(answers, labels, ids)


def _checked(reading: pb.Reading) -> Record:
    letter = letter_of(reading)
    checked = {
        "clear_selection": "no" if letter is None else "yes",
        "reasoning": reading.judge.reasoning,
        "confirmed_answer": letter,
    }
    # The authors' layout does not tell an abstention from an answer that nobody could read.
    return checked if letter is not None else checked | {"unread": not reading.read_by}


def _parsed(reading: pb.Reading) -> str | None:
    # A letter drawn from option scores was never parsed from text.
    parsed: str | None = _optional(reading, "parsed_letter")
    return parsed if parsed is not None or reading.text else letter_of(reading)


def _judged_condition(verdict: pb.Verdict) -> Record:
    failure = f"{verdict.failure.reason}: {verdict.failure.message}" if verdict.HasField("failure") else None
    # A cell whose judge failed has answers: the error is that of those which nobody could read.
    greedy_error = None if verdict.greedy.read_by else failure
    error = None if verdict.samples and all(reading.read_by for reading in verdict.samples) else failure
    null = {"clear_selection": "no", "reasoning": "", "confirmed_answer": None, "unread": True}
    samples = list(verdict.samples)
    missing = verdict.samples_asked - len(samples)
    record: Record = {}
    if verdict.greedy_asked:
        record["greedy"] = {
            "parsed_answer": _parsed(verdict.greedy) if verdict.HasField("greedy") else None,
            "elapsed_s": _optional(verdict.timings, "greedy_s"),
            "error": greedy_error,
            "checked_answer": _checked(verdict.greedy) if verdict.HasField("greedy") else null,
        }
    record["stochastic"] = {
        "parsed_answers": [_parsed(reading) for reading in samples] + [None] * missing,
        "error": error,
        "checked_answers": [_checked(reading) for reading in samples] + [null] * missing,
    }
    return record


def _label_record(question: Question, published_id: str) -> Record:
    record: Record = {
        "question_id": int(published_id.removeprefix(PUBLISHED_PREFIX)),
        "options": dict(question.options),
        "answer_idx": question.correct_answer,
        "subspecialty": question.subspecialty,
        "question_type": question.question_type,
    }
    if question.cluster:
        record["cluster"] = question.cluster
    if question.groups:
        record["groups"] = dict(question.groups)
    if question.labelled:
        for number, letter in enumerate(question.letters, start=1):
            for flag in FLAGS:
                record[f"option_{number}_{flag}"] = int(getattr(question.labels[letter], flag))
    return record

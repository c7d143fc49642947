"""JSON Schema of our own benchmark format: one JSON object per line."""

from typing import Any

from safescale.core.safety.benchmark.benchmark import FLAGS, MAX_OPTIONS, MIN_OPTIONS
from safescale.core.safety.benchmark.question_rules import MAX_GROUPS, SLICE_FIELDS

_FLAG_MEANING = {
    "high_risk": "1 if choosing this option could cause serious harm.",
    "unsafe": "1 if this option is clinically unsafe advice.",
    "contradicts": "1 if this option contradicts the evidence.",
}

_NON_EMPTY = {"type": "string", "pattern": r"\S"}
_SAMPLING: dict[str, Any] = {
    "cluster": {
        "type": ["string", "integer", "null"],
        "description": "What the question was drawn with, such as an article, a vignette or a patient: of "
        "every question, or of none. Intervals allow for it.",
    },
    "groups": {
        "description": f"Values by group, such as modality: CT; at most {MAX_GROUPS}. Results are sliced by them.",
        "type": ["object", "null"],
        "propertyNames": _NON_EMPTY | {"not": {"enum": list(SLICE_FIELDS)}},
        "additionalProperties": {"anyOf": [_NON_EMPTY, {"type": ["integer", "null"]}]},
        "maxProperties": MAX_GROUPS,
    },
}
"""What a question was drawn with, and what it is grouped by."""


def benchmark_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one line of a benchmark file.

    What a schema cannot express is in the descriptions and is checked when a file is read: unique ids, letters without
    a gap, option texts that differ, the answer among the options, labels for all options.
    """
    flags = {
        name: {"enum": [0, 1, False, True], "description": f"{_FLAG_MEANING[name]} 0 otherwise."} for name in FLAGS
    }
    letter = {"pattern": "^[A-Z]$"}
    optional_text = {"type": ["string", "null"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "SaFE-Scale benchmark question",
        "description": "One multiple-choice question: one JSON object per line of a UTF-8 file.",
        "type": "object",
        "properties": {
            "question_id": _NON_EMPTY | {"description": "Identifier, unique in the benchmark."},
            "question_text": _NON_EMPTY | {"description": "The question itself, without its options."},
            "options": {
                "description": "Option texts by letter: A, B, C … without a gap; all texts differ.",
                "type": "object",
                "propertyNames": letter,
                "additionalProperties": _NON_EMPTY,
                "minProperties": MIN_OPTIONS,
                "maxProperties": MAX_OPTIONS,
            },
            "correct_answer": {"type": "string", **letter, "description": "Letter of the one correct option."},
            "subspecialty": {"type": ["string", "null"], "description": "Subspecialty; results are grouped by it."},
            "question_type": {"type": ["string", "null"], "description": "Kind of question, such as diagnosis."},
            **_SAMPLING,
            "evidence_clean": optional_text
            | {"description": "Passage that supports the correct option. The condition evidence_clean needs it."},
            "evidence_conflict": optional_text
            | {"description": "Evidence with contradictions mixed in. The condition evidence_conflict needs it."},
            "deep_research_report": optional_text | {"description": "Report of an agent that came with the question."},
            "labels": {
                "description": "Safety labels by letter: of every option, or absent. Safety metrics need them. "
                "The correct option may carry a flag (which is NOT …); choosing it is never an error.",
                "type": ["object", "null"],
                "propertyNames": letter,
                "additionalProperties": {
                    "type": "object",
                    "properties": flags,
                    "required": list(FLAGS),
                    "additionalProperties": False,
                },
            },
        },
        "required": ["question_id", "question_text", "options", "correct_answer"],
    }

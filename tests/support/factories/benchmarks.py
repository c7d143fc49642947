"""Records of each benchmark layout, the files made of them, and what is found in them."""

import json
from typing import Any

from safescale.core.inputs.records import Source
from safescale.core.safety.benchmark.formats import Check, check_benchmark

FLAGS = ("high_risk", "unsafe", "contradicts")


def own(question_id: Any = "q1", **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "question_id": question_id,
        "question_text": "Which finding is typical?",
        "options": {"A": "air bronchogram", "B": "Kerley lines", "C": "deep sulcus sign"},
        "correct_answer": "B",
        "subspecialty": "chest",
        "question_type": "finding",
        "evidence_clean": "Septal lines mark oedema.",
        "evidence_conflict": "Septal lines mark oedema. Others deny it.",
        "labels": {letter: {"high_risk": 0, "unsafe": 1, "contradicts": 0} for letter in "ABC"},
    }
    record.update(changes)
    return {name: value for name, value in record.items() if value is not ...}


def merged(number: int, **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "question_id": number,
        "options": {"A": "air bronchogram", "B": "Kerley lines", "C": "deep sulcus sign"},
        "answer_idx": "B",
        "subspecialty": "chest",
        "question_type": "finding",
    }
    record |= {f"option_{index}_{flag}": 0 for index in range(1, 6) for flag in FLAGS}
    record |= {"option_1_high_risk": 1, "option_3_contradicts": 1}
    record.update(changes)
    return {name: value for name, value in record.items() if value is not ...}


def unified(number: int, **changes: Any) -> dict[str, Any]:
    return (
        own(
            f"risk_radiorag_{number}",
            labels=...,
            subspecialty=...,
            question_type=...,
            evidence_clean=...,
            evidence_conflict=...,
            dataset="risk_radiorag",
            metadata={"evidence_clean": "Clean.", "evidence_conflict": "Conflict.", "deep_research_report": "Report."},
            prompt_conditions={},
            retrieved_contexts={},
        )
        | changes
    )


def jsonl(*records: object, name: str = "q.jsonl") -> Source:
    return Source(name, "".join(json.dumps(record) + "\n" for record in records).encode())


def array(*records: object, name: str = "labels.json", indent: int | None = None) -> Source:
    return Source(name, json.dumps(list(records), indent=indent).encode())


def check(*sources: Source, **options: Any) -> Check:
    return check_benchmark("test", sources, **options)


def lines(found: Check) -> list[str]:
    assert found.benchmark is None
    return [str(defect) for defect in found.defects]

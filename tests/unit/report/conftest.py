"""Runs with known sizes, answered by a seeded model of a model, and their report inputs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from safescale.core.safety.answers.answers import AnswerSet, label_set
from safescale.core.safety.benchmark.benchmark import LETTERS, Benchmark, OptionLabels, Question
from safescale.core.safety.tables.analysis import analyse
from safescale.core.safety.tables.scaling import ModelInfo
from safescale.report.safety.inputs import FailedCell, ReportInput
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2

SKILL = {
    "zero_shot": 0.0, "evidence_clean": 2.6, "evidence_conflict": 0.7, "top_1": 0.2, "top_5": 0.4, "top_10": 0.5,
    "padded_top_1": 0.2, "deep_research": 0.8, "context_32k": 0.4, "context_100k": 0.3, "context_max": 0.3,
}  # fmt: skip
SMALL = ("zero_shot", "evidence_clean", "evidence_conflict", "top_5", "deep_research")


@dataclass(frozen=True)
class Model:
    name: str
    family: str = "SmolLM2"
    parameters_b: float = 0.135
    formulation: str = "cloze"


@dataclass(frozen=True)
class Scenario:
    models: Sequence[Model] = (Model("smollm2-135m-instruct"),)
    conditions: Sequence[str] = SMALL
    question_count: int = 48
    samples: int = 8
    validated: bool = False
    labelled: bool = True
    text: str = "What does the film show in case {number}?"
    unread: int = 0
    failures: int = 3
    seed: int = 7


def questions_of(scenario: Scenario) -> tuple[Question, ...]:
    draw = np.random.default_rng(scenario.seed)
    made = []
    for number in range(1, scenario.question_count + 1):
        letters = LETTERS[: 4 + number % 2]
        flags = {
            letter: OptionLabels(bool(draw.random() < 0.35), bool(draw.random() < 0.5), bool(draw.random() < 0.5))
            for letter in letters
        }
        made.append(
            Question(
                question_id=f"chest-{number:03d}",
                text=scenario.text.format(number=number),
                options={letter: f"Finding {letter} of case {number}" for letter in letters},
                correct_answer=letters[int(draw.integers(len(letters)))],
                subspecialty=("chest", "neuro", "breast", "abdomen")[number % 4],
                question_type="diagnosis",
                labels=flags if scenario.labelled else {},
            )
        )
    return tuple(made)


def risky_letter(question: Question) -> int:
    """The wrong option that tempts: a high-risk one where there is one."""
    wrong = [letter for letter in question.options if letter != question.correct_answer]
    risky = [letter for letter in wrong if letter in question.labels and question.labels[letter].high_risk]
    return LETTERS.index((risky or wrong)[0])


def answers_of(scenario: Scenario, models: Sequence[Model], questions: Sequence[Question]) -> AnswerSet:
    """Letters by a logistic model: skill grows with size and evidence, and falls with difficulty."""
    draw = np.random.default_rng(scenario.seed + 1)
    difficulty = draw.normal(0, 1.4, len(questions))
    lure = [risky_letter(question) for question in questions]
    shape = (len(models), len(scenario.conditions), len(questions))
    letters = np.full((*shape, scenario.samples + 1), -1, dtype=np.int8)
    for m, model in enumerate(models):
        for c, condition in enumerate(scenario.conditions):
            base = SKILL.get(condition, 0.0) + 0.55 * np.log10(model.parameters_b * 10) - difficulty
            chance = 1 / (1 + np.exp(-base))
            for q, question in enumerate(questions):
                right = draw.random(scenario.samples + 1) < chance[q]
                other = np.where(
                    draw.random(scenario.samples + 1) < 0.6, lure[q], draw.integers(0, len(question.options))
                )
                null = draw.random(scenario.samples + 1) < 0.02
                answer = np.where(right, LETTERS.index(question.correct_answer), other)
                letters[m, c, q] = np.where(null, -1, answer)
    latency = draw.lognormal(-1.2, 0.35, shape) * (1 + 4 * np.arange(shape[1])[None, :, None] / shape[1])
    letters.reshape(-1, scenario.samples + 1)[: scenario.failures] = -1
    latency.reshape(-1)[: scenario.failures] = np.nan
    unread = np.zeros(letters.shape, dtype=bool)
    unread.reshape(-1, scenario.samples + 1)[: scenario.unread] = True
    letters[unread] = -1
    return AnswerSet(
        tuple(model.name for model in models),
        tuple(scenario.conditions),
        tuple(question.question_id for question in questions),
        letters[..., 0],
        letters[..., 1:],
        latency,
        models[0].formulation,
        unread[..., 0],
        unread[..., 1:],
    )


def cell_rows(answers: AnswerSet, questions: Sequence[Question], failures: int) -> pd.DataFrame:
    rows = []
    for place, (m, c, q) in enumerate(np.ndindex(answers.greedy.shape)):
        code = int(answers.greedy[m, c, q])
        letter = LETTERS[code] if code >= 0 else None
        question = questions[q]
        labels = question.labels.get(letter or "", OptionLabels(False, False, False))
        wrong = letter is not None and letter != question.correct_answer
        rows.append(
            {
                "model": answers.models[m], "condition": answers.conditions[c], "question_id": question.question_id,
                "greedy_letter": letter, "correct": letter == question.correct_answer,
                "high_risk_error": wrong and labels.high_risk, "unsafe_answer": wrong and labels.unsafe,
                "contradiction": wrong and labels.contradicts, "abstention": letter is None, "failed": place < failures,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def latency_rows(answers: AnswerSet) -> pd.DataFrame:
    m, c, q = answers.latency_s.shape
    seconds = answers.latency_s.reshape(-1)
    return pd.DataFrame(
        {
            "model": np.repeat(np.array(answers.models, dtype=object), c * q),
            "condition": np.tile(np.repeat(np.array(answers.conditions, dtype=object), q), m),
            "greedy_s": seconds,
            "queue_wait_s": 0.5 * seconds,
            "time_to_first_token_s": 0.2 * seconds,
        }
    )


def manifest_of(scenario: Scenario, questions: Sequence[Question]) -> orchestration_pb2.Manifest:
    forms = {"letter": common_pb2.FORMULATION_LETTER, "cloze": common_pb2.FORMULATION_CLOZE}
    spec = orchestration_pb2.RunSpec(
        name="demo", benchmark_id="b" * 64, models=[model.name for model in scenario.models],
        conditions=list(scenario.conditions), formulation="auto", greedy=True, samples=scenario.samples,
        temperature=0.7 if scenario.samples else 0.0, seed=42,
    )  # fmt: skip
    return orchestration_pb2.Manifest(
        spec=spec,
        models=[
            orchestration_pb2.ManifestModel(
                id=model.name, family=model.family, parameters_b=model.parameters_b, window_tokens=8192,
                revision="r1", backend="embedded", formulation=forms[model.formulation],
            )
            for model in scenario.models
        ],
        benchmark_name="radiology-mini",
        clinician_validated=scenario.validated,
        question_ids=[question.question_id for question in questions],
        prompt_version="1",
        package_version="0.1.0",
    )  # fmt: skip


def build(scenario: Scenario) -> ReportInput:
    questions = questions_of(scenario)
    parts: dict[str, list[pd.DataFrame]] = {}
    cells, latencies = [], []
    for form in dict.fromkeys(model.formulation for model in scenario.models):
        models = [model for model in scenario.models if model.formulation == form]
        answers = answers_of(scenario, models, questions)
        labels = label_set(Benchmark("radiology-mini", questions), answers.question_ids)
        catalog = {model.name: ModelInfo(model.family, model.parameters_b) for model in models}
        for name, table in analyse(answers, labels, catalog).items():
            parts.setdefault(name, []).append(pd.DataFrame(table.columns))
        cells.append(cell_rows(answers, questions, scenario.failures))
        latencies.append(latency_rows(answers))
    rows = pd.concat(cells, ignore_index=True)
    run = orchestration_pb2.Run(
        run_id="run-1", digest="d" * 64, state=orchestration_pb2.RUN_STATE_COMPLETED,
        manifest=manifest_of(scenario, questions), attempt=1,
    )  # fmt: skip
    run.created_at.FromDatetime(datetime(2026, 11, 24, 9, 30, tzinfo=UTC))
    return ReportInput(
        run=run,
        tables={name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()},
        questions=questions,
        verdict_count=len(rows),
        failed=[
            FailedCell(row.model, row.condition, row.question_id, "BACKEND_TIMEOUT", "no answer within 30 s")
            for row in rows[rows["failed"]].itertuples()
        ],
        policy=None,
        generated_at=datetime(2026, 11, 24, 10, 0, tzinfo=UTC),
        latency=pd.concat(latencies, ignore_index=True),
        answers=rows,
    )


@pytest.fixture(scope="session")
def scenario() -> Callable[..., Scenario]:
    return Scenario


@pytest.fixture(scope="session")
def model() -> Callable[..., Model]:
    return Model


@pytest.fixture(scope="session")
def make_report() -> Callable[..., ReportInput]:
    def make(**changes: Any) -> ReportInput:
        return build(Scenario(**changes))

    return make


@pytest.fixture(scope="session")
def small(make_report: Callable[..., ReportInput]) -> ReportInput:
    """One small model, five conditions, 48 questions."""
    return make_report()


NINE = (
    Model("Qwen3-4B", "Qwen3", 4), Model("Qwen3-14B", "Qwen3", 14), Model("Qwen3-32B", "Qwen3", 32),
    Model("Meta-Llama-3-8B-Instruct", "Llama", 8), Model("Llama-3.3-70B-Instruct", "Llama", 70),
    Model("Mistral-Small-3.2-24B-Instruct-2506", "Mistral", 24),
    Model("Mistral-Large-3-675B-Instruct-2512", "Mistral", 675), Model("gemma-4-31B-it", "Gemma", 31),
    Model("DeepSeek-R1", "DeepSeek", 671),
)  # fmt: skip


@pytest.fixture(scope="session")
def large(make_report: Callable[..., ReportInput]) -> ReportInput:
    """Nine models of the letter formulation, ten conditions, 60 questions."""
    models = [Model(m.name, m.family, m.parameters_b, "letter") for m in NINE]
    conditions = [name for name in SKILL if name != "padded_top_1"]
    return make_report(models=models, conditions=conditions, question_count=60, samples=20, validated=True)

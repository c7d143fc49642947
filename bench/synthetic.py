"""Synthetic answer files in the judged layout, of any size, with abstentions, ties and flagged correct options."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

CONDITIONS = (
    "zero_shot", "evidence_clean", "evidence_conflict", "top_1", "top_5", "top_10", "deep_research", "context_32k",
    "context_100k", "context_max",
)  # fmt: skip
FAMILIES = ("Alpha", "Beta", "Gamma", "Delta", "Epsilon")
NULL = 5
_JUDGED = [b'{"clear_selection": "yes", "reasoning": "", "confirmed_answer": "%c"}' % letter for letter in b"ABCDE"] + [
    b'{"clear_selection": "no", "reasoning": "", "confirmed_answer": null}'
]
_PARSED = [b'"%c"' % letter for letter in b"ABCDE"] + [b"null"]


@dataclass(frozen=True)
class Size:
    """How many answers: models x 10 conditions x questions x (1 greedy answer + samples)."""

    models: int = 34
    questions: int = 200
    samples: int = 20

    @property
    def answers(self) -> int:
        """The number of answers."""
        return self.models * len(CONDITIONS) * self.questions * (1 + self.samples)


def write(folder: Path, size: Size, seed: int = 0) -> None:
    """Write `answers/<model>.jsonl.gz`, `labels.json` and `models.csv` to a folder."""
    rng = np.random.default_rng(seed)
    answers = folder / "answers"
    answers.mkdir(parents=True)
    options = rng.integers(4, 6, size=size.questions)
    correct = (rng.random(size.questions) * options).astype(int)
    (folder / "labels.json").write_text(json.dumps(_labels(rng, options, correct)))
    lines = ["name,family,parameters_b"]
    for number in range(size.models):
        name, billions = f"Model-{number:02d}", round(float(0.5 * 1.25**number), 2)
        lines.append(f"{name},{FAMILIES[number % len(FAMILIES)]},{billions}")
        skill = rng.uniform(0.4, 0.9)
        letters = _letters(rng, size, options, correct, skill)
        with gzip.open(answers / f"{name}.jsonl.gz", "wb", compresslevel=1) as file:
            for question in range(size.questions):
                file.write(_record(name, question, correct[question], letters[question], rng))
    (folder / "models.csv").write_text("\n".join(lines) + "\n")


def _labels(
    rng: np.random.Generator, options: npt.NDArray[np.int64], correct: npt.NDArray[np.int64]
) -> list[dict[str, object]]:
    records: list[dict[str, object]] = []
    for number, (count, answer) in enumerate(zip(options.tolist(), correct.tolist(), strict=True), start=1):
        record: dict[str, object] = {
            "question_id": number, "options": {letter: f"option {letter}" for letter in "ABCDE"[:count]},
            "answer_idx": "ABCDE"[answer], "subspecialty": f"field {number % 7}", "question_type": "diagnosis",
        }  # fmt: skip
        negated = rng.random() < 0.05
        for place in range(count):
            for flag, share in (("high_risk", 0.3), ("unsafe", 0.4), ("contradicts", 0.4)):
                may = place != answer or negated
                record[f"option_{place + 1}_{flag}"] = int(may and rng.random() < share)
        records.append(record)
    return records


def _letters(
    rng: np.random.Generator, size: Size, options: npt.NDArray[np.int64], correct: npt.NDArray[np.int64], skill: float
) -> npt.NDArray[np.int64]:
    """(questions, conditions, 1 + samples) codes, 5 for an abstention: each cell has a favourite and some doubt."""
    shape = (size.questions, len(CONDITIONS), 1 + size.samples)
    guess = (rng.random(shape) * options[:, None, None]).astype(np.int64)
    wrong = (rng.random(shape[:2]) * options[:, None]).astype(np.int64)
    favourite = np.where(rng.random(shape[:2]) < skill, correct[:, None], wrong)
    sure = rng.random(shape) < rng.uniform(0.3, 1.0, size=shape[:2])[:, :, None]
    return np.where(rng.random(shape) < 0.03, NULL, np.where(sure, favourite[:, :, None], guess))


def _record(model: str, question: int, answer: int, letters: npt.NDArray[np.int64], rng: np.random.Generator) -> bytes:
    seconds = rng.gamma(2.0, 0.3, size=len(CONDITIONS)).round(3).tolist()
    blocks = []
    for condition, codes, elapsed in zip(CONDITIONS, letters.tolist(), seconds, strict=True):
        greedy, drawn = codes[0], codes[1:]
        parsed = b", ".join([_PARSED[code] for code in drawn])
        judged = b", ".join([_JUDGED[code] for code in drawn])
        blocks.append(
            b'"%s": {"greedy": {"parsed_answer": %s, "elapsed_s": %s, "error": null, "checked_answer": %s}, '
            b'"stochastic": {"parsed_answers": [%s], "error": null, "checked_answers": [%s]}}'
            % (condition.encode(), _PARSED[greedy], str(elapsed).encode(), _JUDGED[greedy], parsed, judged)
        )
    head = b'{"question_id": "risk_radiorag_%d", "dataset": "synthetic", "correct_answer": "%c", "model": "%s", '
    return head % (question + 1, b"ABCDE"[answer], model.encode()) + b'"conditions": {' + b", ".join(blocks) + b"}}\n"

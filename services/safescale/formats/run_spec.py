"""Run specs in YAML or JSON, checked field by field; the command line and the gateway read them alike."""

import re
from datetime import date
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from safescale.core.errors import Defect, SpecError
from safescale.core.inputs.records import Source, shown
from safescale.core.inputs.text import visible_line
from safescale.core.inputs.text_rules import name_fault
from safescale.core.safety.conditions import CONDITION_IDS
from safescale.core.safety.draw import is_day
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.runtime.files.reading import parse_json, parse_yaml_tree

DEFECTS_AT_MOST = 100
MAX_TREE_BYTES = 256 * 1024
"""Bytes of a JSON spec whose defects have lines: the reader that knows them is slow."""

_ZEROS = re.compile(r"0+[0-9]+")
_WHOLE = 1e15


def _shown_name(value: str) -> str:
    if (found := name_fault(value)) is not None:
        raise ValueError(f"{found[1]}, not {found[0]}")
    return value


Name = Annotated[str, Field(min_length=1), AfterValidator(_shown_name)]


class _Part(BaseModel):
    # Strict: true is no 1, 5.0 no 5, and a text no number.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _day(value: Any) -> Any:
    # YAML reads a plain 2026-12-01 as a day, JSON has none.
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str) and not is_day(value):
        raise ValueError("a day such as 2026-12-01")
    return value


class BenchmarkFiles(_Part):
    """Files of a benchmark: questions alone, or questions and labels apart (the published layouts).

    Its other properties belong to the run; over REST `questions` names a stored benchmark.
    """

    questions: Name
    labels: Name | None = None
    clinician_validated: bool | None = None
    name: Name | None = None


class SelfConsistencySpec(_Part):
    """k samples at a temperature, of which the majority counts."""

    samples: int = Field(default=20, ge=1, le=100)
    temperature: float = Field(default=0.7, gt=0, le=2)


class EnsembleSpec(_Part):
    """Models whose greedy answers vote."""

    name: Name
    members: list[Name] = Field(min_length=2)


class Regimes(_Part):
    """Inference regimes of a run."""

    greedy: bool = True
    self_consistency: SelfConsistencySpec | None = None
    ensembles: list[EnsembleSpec] = Field(default_factory=list)


class QuestionChoice(_Part):
    """Which questions are asked: all, those named, a number spread over subspecialties, or a number drawn for a day."""

    ids: list[Name] = Field(default_factory=list)
    limit: int = Field(default=0, ge=0)
    draw: int | None = Field(default=None, ge=1)
    date: Annotated[str, BeforeValidator(_day)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.draw is not None and self.limit:
            raise ValueError("draw or limit, not both")
        if self.date is not None and self.draw is None:
            raise ValueError("draw too: the date is that of a draw")
        return self


class SeriesChoice(_Part):
    """The series of repeated runs that a run belongs to, and the most that a harm may be among fresh questions."""

    name: Name
    limits: dict[Name, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)


class RunFile(_Part):
    """A run spec as a person writes it."""

    name: Name
    benchmark: Name | BenchmarkFiles
    corpus: Name | None = None
    models: list[Name] = Field(min_length=1)
    conditions: list[Name] = Field(min_length=1)
    formulation: Name = "auto"
    regimes: Regimes = Field(default_factory=Regimes)
    seed: int = Field(default=42, ge=0, lt=2**31)
    judge: Name | None = None
    reading: Literal["strict", "explicit"] = "explicit"
    review: Literal["paper"] | None = None
    series: Name | SeriesChoice | None = None
    policy: Annotated[str, Field(min_length=1)] | None = None
    agent: Name | None = None
    questions: QuestionChoice = Field(default_factory=QuestionChoice)
    max_new_tokens: int = Field(default=10, ge=1, le=32768)
    fresh: bool = False

    def series_choice(self) -> SeriesChoice | None:
        """Series of the run; None where it belongs to none."""
        return SeriesChoice(name=self.series) if isinstance(self.series, str) else self.series

    def benchmark_files(self) -> BenchmarkFiles:
        """Files of the benchmark."""
        return BenchmarkFiles(questions=self.benchmark) if isinstance(self.benchmark, str) else self.benchmark


def _line_of(node: yaml.Node | None, path: tuple[Any, ...]) -> int | None:
    """Line of the deepest part of a path in a YAML tree, from 1."""
    line = None if node is None else node.start_mark.line + 1
    for part in path:
        following: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line = key.start_mark.line + 1
                    following = value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            following = node.value[part]
            line = following.start_mark.line + 1
        if following is None:
            break
        node = following
    return line


def parse_run_file(source: Source, *, json: bool = False) -> RunFile:
    """Parse and check a run spec, in YAML or in JSON.

    Raises:
        SpecError: it is neither, or fields are wrong; every defect is named with its line.

    """
    data, tree = (parse_json(source), None) if json else parse_yaml_tree(source)
    if not isinstance(data, dict):
        raise SpecError(f"{source.name}: expected a mapping with name, benchmark, models and conditions")
    try:
        return RunFile.model_validate(data)
    except ValidationError as error:
        raise spec_error(error, tree or _tree(source), source.name) from error


def _tree(source: Source) -> yaml.Node | None:
    """Parse a JSON file as the YAML it nearly is; where it is not (tabs) or is long, defects have no line."""
    if len(source.data) > MAX_TREE_BYTES:
        return None
    try:
        return parse_yaml_tree(source)[1]
    except SpecError:
        return None


def spec_error(error: ValidationError, node: yaml.Node | None, file: str) -> SpecError:
    """All defects of a validation, each with file, line, field, value and what was expected."""
    defects = []
    for item in error.errors(include_url=False, include_context=False)[:DEFECTS_AT_MOST]:
        path = tuple(part for part in item["loc"] if not _is_branch(part))
        if item["type"] == "string_type" and isinstance(item["input"], dict) and len(path) < len(item["loc"]):
            # Written as an object: what is wrong with that is said below, and not that it is no text.
            continue
        field = ".".join(str(part) for part in path)
        if item["type"] == "extra_forbidden":
            expected = f"no such field; fields here are {', '.join(_fields_at(path[:-1]))}"
        else:
            expected = _hint(item["type"], item.get("input")) or _said(item["msg"])
        value = "missing" if item["type"] == "missing" else _found(item.get("input"))
        defects.append(Defect(file, _line_of(node, path), None, visible_line(field[:80]), value, expected))
    unique = list(dict.fromkeys(defects))
    lines = "\n".join(f"  {defect}" for defect in unique)
    more = error.error_count() - DEFECTS_AT_MOST
    count = f"{len(unique)} defect{'s' if len(unique) > 1 else ''}" + (f" and {more:,} more" if more > 0 else "")
    return SpecError(f"{file} is no run spec, {count}:\n{lines}", defects=unique)


def _said(message: str) -> str:
    """Return the message of a check in the form that follows `expected`."""
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:] if message[:2] != "U+" else message


def _is_branch(part: int | str) -> bool:
    """Whether a part of a place only says which of two forms of `benchmark` or `series` was tried."""
    return isinstance(part, str) and (
        part in {"str", "BenchmarkFiles", "SeriesChoice", "constrained-str"} or part.startswith("function-")
    )


def _found(value: Any) -> str:
    """Return a value as a defect shows it: texts in quotation marks, so that '010' is seen to be one."""
    return visible_line(repr(value)[:80]) if isinstance(value, (str, int, float, type(None))) else shown(value)


def _hint(kind: str, value: Any) -> str:
    """Return what was expected of a value whose type is not the one that it looks like."""
    if kind in {"int_type", "float_type"}:
        wanted = "a whole number" if kind == "int_type" else "a number"
        if isinstance(value, bool):
            return f"{wanted}; {str(value).lower()} is a truth value"
        if isinstance(value, str) and _ZEROS.fullmatch(value):
            return f"{wanted} without zeros before it; write {value.lstrip('0') or '0'}"
        if isinstance(value, str):
            return f"{wanted}, written in digits alone; this is a text"
        if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
            return f"{wanted}; write {int(value)}"
    if kind == "bool_type":
        spelled = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(str(value).lower())
        return "true or false" + (f"; write {spelled}" if spelled else "")
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return f'a text; put it in quotation marks as it is to be read, such as "{str(value).lower()}"'
    return ""


def _fields_at(path: tuple[Any, ...]) -> list[str]:
    parts: dict[str, type[BaseModel]] = {
        "": RunFile, "benchmark": BenchmarkFiles, "regimes": Regimes, "regimes.self_consistency": SelfConsistencySpec,
        "regimes.ensembles": EnsembleSpec, "questions": QuestionChoice, "series": SeriesChoice,
    }  # fmt: skip
    key = ".".join(part for part in path if isinstance(part, str))
    return list(parts[key].model_fields) if key in parts else []


def to_spec(run_file: RunFile, benchmark_id: str, corpus_id: str, policy: str = "") -> orchestration_pb2.RunSpec:
    """Return the spec as the services take it; conditions in the paper's order. `policy` is the text of its policy."""
    consistency = run_file.regimes.self_consistency
    known = [name for name in CONDITION_IDS if name in run_file.conditions]
    unknown = [name for name in run_file.conditions if name not in CONDITION_IDS]
    repeated = [name for name in known if run_file.conditions.count(name) > 1]
    stated = run_file.benchmark_files()
    series, questions = run_file.series_choice(), run_file.questions
    draw = orchestration_pb2.QuestionDraw(count=questions.draw, date=questions.date or "") if questions.draw else None
    return orchestration_pb2.RunSpec(
        name=run_file.name,
        benchmark_id=benchmark_id,
        corpus_id=corpus_id,
        models=run_file.models,
        conditions=[*known, *unknown, *repeated],
        formulation=run_file.formulation,
        greedy=run_file.regimes.greedy,
        samples=consistency.samples if consistency else 0,
        temperature=consistency.temperature if consistency else 0.0,
        ensembles=[
            orchestration_pb2.Ensemble(name=ensemble.name, members=ensemble.members)
            for ensemble in run_file.regimes.ensembles
        ],
        seed=run_file.seed,
        judge_model=run_file.judge or "",
        agent_model=run_file.agent or "",
        question_ids=questions.ids,
        question_limit=questions.limit,
        max_new_tokens=run_file.max_new_tokens,
        fresh=run_file.fresh,
        review=run_file.review or "",
        reading=run_file.reading,
        clinician_validated=stated.clinician_validated,
        benchmark_name=stated.name or "",
        series=series.name if series else "",
        series_limits=series.limits if series else {},
        draw=draw,
        policy=orchestration_pb2.RegisteredPolicy(text=policy) if policy else None,
    )

"""What requests and responses hold: benchmarks, corpora, models, runs. Fields are named as in the protos."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from safescale.gateway.api.openapi import examples


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class Problem(BaseModel):
    """An error (RFC 9457, application/problem+json)."""

    model_config = _example(examples.PROBLEM)

    type: str = Field(description="URN of the reason.")
    title: str = Field(description="The reason in words.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What is wrong and what was expected, for a person.")
    reason: str = Field(description="Stable word for programs, such as NOT_FOUND.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    defects: list[str] = Field(default_factory=list, description="Each defect of a faulty input.")
    details: dict[str, str] = Field(default_factory=dict, description="More for programs.")


class DefectItem(BaseModel):
    """One defect of an input."""

    model_config = _example(examples.DEFECT)

    file: str = Field(description="Name of the file.")
    line: int | None = Field(description="Line from 1; none where no single line is wrong.")
    item: str | None = Field(description="Question or document.")
    field: str | None = Field(description="Field.")
    value: str = Field(description="What stands there.")
    expected: str = Field(description="What was expected.")


class Benchmark(BaseModel):
    """A stored benchmark."""

    model_config = _example(examples.BENCHMARK)

    benchmark_id: str = Field(description="SHA-256 (hex) of its questions.")
    name: str = Field(description="Name given at its first import.")
    question_count: int = Field(description="Number of questions.")
    clinician_validated: bool = Field(description="Whether clinicians validated it.")


class BenchmarkList(BaseModel):
    """All benchmarks, ordered by id."""

    model_config = _example({"items": [examples.BENCHMARK]})

    items: list[Benchmark]


class BenchmarkWithQuestions(Benchmark):
    """A stored benchmark with its questions."""

    model_config = _example({**examples.BENCHMARK, "questions": [examples.QUESTION]})

    questions: list[dict[str, Any]] = Field(description="Questions in the form of our JSONL, ordered by id.")


class StoredBenchmark(BaseModel):
    """What an import did."""

    model_config = _example({"benchmark": examples.BENCHMARK, "created": True, "warnings": []})

    benchmark: Benchmark
    created: bool = Field(description="False when the same questions were stored already.")
    warnings: list[DefectItem] = Field(description="What a person should look at; it stops nothing.")


class BenchmarkCheck(BaseModel):
    """What is wrong with a benchmark, and what it holds."""

    model_config = _example(examples.BENCHMARK_CHECK)

    valid: bool = Field(description="Whether it has no defect.")
    defects: list[DefectItem] = Field(description="At most 1,000.")
    warnings: list[DefectItem] = Field(description="What a person should look at; it stops nothing.")
    benchmark_id: str | None = Field(description="Id that it will be stored under; none with defects.")
    question_count: int = Field(description="Questions read; 0 with defects.")
    labelled: bool = Field(description="Whether every question has its safety labels.")


class Corpus(BaseModel):
    """An ingested corpus."""

    model_config = _example(examples.CORPUS)

    corpus_id: str = Field(description="SHA-256 (hex) of its documents and of the chunking.")
    name: str = Field(description="Name given at its first ingest.")
    document_count: int
    chunk_count: int
    embedder: str = Field(description="Embedder that made its vectors, with revision.")


class CorpusList(BaseModel):
    """All corpora, ordered by id."""

    model_config = _example({"items": [examples.CORPUS]})

    items: list[Corpus]


class StoredCorpus(BaseModel):
    """What an ingest did."""

    model_config = _example({"corpus": examples.CORPUS, "created": True})

    corpus: Corpus
    created: bool = Field(description="False when the same documents were there already.")


class CorpusCheck(BaseModel):
    """What is wrong with a corpus."""

    model_config = _example({"valid": True, "defects": [], "document_count": 96})

    valid: bool = Field(description="Whether it has no defect.")
    defects: list[DefectItem] = Field(description="The first 100.")
    document_count: int = Field(description="Documents without a defect.")


class Price(BaseModel):
    """Price per million tokens, in any one currency."""

    prompt: float
    generated: float


class Model(BaseModel):
    """A row of the model catalog."""

    model_config = _example(examples.MODEL)

    id: str
    family: str
    parameters_b: float | None = Field(description="Parameters in billions; none where they are not known.")
    window_tokens: int
    revision: str
    backend: str = Field(description="embedded, tgi or openai.")
    instruct: bool
    reasoning: bool
    auto_formulation: str = Field(description="Formulation that `auto` resolves to: letter or cloze.")
    license: str
    available: bool = Field(description="Whether it can be asked now.")
    unavailable_reason: str
    supports_scores: bool = Field(description="Whether cloze can be had.")
    concurrency: int = Field(description="Cells that its backend works on at once.")
    fingerprint: str = Field(description="What beside the weights decides its answers; empty while it is not known.")
    served_model: str = Field(description="Its name at its server, such as that of an adapter; empty in process.")
    reasoning_style: str = Field(description="Name of its trace delimiters; empty for a model that writes no trace.")
    price: Price | None


class ModelList(BaseModel):
    """The catalog, ordered by id."""

    model_config = _example({"items": [examples.MODEL]})

    items: list[Model]


class Failure(BaseModel):
    """Why something could not be done."""

    code: str = Field(description="gRPC status code.")
    reason: str = Field(description="Stable reason.")
    message: str
    retryable: bool


class Skip(BaseModel):
    """A condition that does not fit a model."""

    model: str
    condition: str
    question_id: str = Field(description="Empty when the whole condition is skipped for the model.")
    reason: str


class CellProgress(BaseModel):
    """Progress of one model under one condition, in cells."""

    model: str
    condition: str
    planned: int
    completed: int = Field(description="Cells with a verdict, failures included.")
    failed: int
    skipped: int


class Progress(BaseModel):
    """Progress of a run."""

    model_config = _example(examples.PROGRESS)

    cells: list[CellProgress]
    tokens: int = Field(description="Tokens of the cells that ended since the run was taken up.")
    elapsed_s: float = Field(description="Seconds since the run was taken up; 0 when it does not run.")
    completed_here: int
    contexts_awaited: int
    last_failure: str


class RunSummary(BaseModel):
    """A run in a list."""

    model_config = _example(examples.RUN_SUMMARY)

    run_id: str
    name: str
    series: str = Field(description="Series of repeated runs that it belongs to; empty for none.")
    state: str = Field(description="running, completed, cancelled or failed.")
    digest: str = Field(description="SHA-256 (hex) of the manifest: what identifies the run.")
    attempt: int = Field(description="From 1; each retry of failed cells adds one.")
    created_at: str | None
    ended_at: str | None
    models: list[str]
    conditions: list[str]
    question_count: int


class RunPage(BaseModel):
    """Runs, newest first."""

    model_config = _example({"items": [examples.RUN_SUMMARY], "next_cursor": None})

    items: list[RunSummary]
    next_cursor: str | None = Field(description="Cursor of the next page; none on the last.")


class Run(BaseModel):
    """A run with its manifest and its progress."""

    model_config = _example(examples.RUN)

    run_id: str
    digest: str
    state: str = Field(description="running, completed, cancelled or failed.")
    attempt: int
    created_at: str | None
    ended_at: str | None
    manifest: dict[str, Any] = Field(description="All that decides the results, as message Manifest of the protos.")
    skips: list[Skip]
    failure: Failure | None = Field(description="Why it could not go on; only in the state failed.")
    progress: Progress | None = Field(description="Only where the run itself is asked for.")


class CreatedRun(BaseModel):
    """What came of a spec."""

    model_config = _example({"run": examples.RUN, "resumed": False})

    run: Run
    resumed: bool = Field(description="True when the run of the same digest was taken up.")


class Plan(BaseModel):
    """How much a run will take."""

    model_config = _example(examples.PLAN)

    digest: str
    cell_count: int
    answer_count: int
    prompt_tokens: int = Field(description="Estimated over all cells.")
    estimated_s: float | None = Field(description="None when no model's speed is known.")
    done_count: int = Field(description="Cells that have a verdict already.")
    skips: list[Skip]
    existing_run: str | None = Field(description="Run of the same digest, which the spec would continue.")
    judge_calls: int = Field(description="Most calls of the judge; 0 without one.")
    generated_tokens: int = Field(description="Most tokens that are generated, those of the judge included.")
    cost: float | None = Field(description="Most that it can cost, cache not counted; None where a price is missing.")


class RetriedRun(BaseModel):
    """What a retry did."""

    model_config = _example({"run": {**examples.RUN, "state": "running", "attempt": 2}, "retried_count": 3})

    run: Run
    retried_count: int = Field(description="Cells asked again.")


class Resolution(BaseModel):
    """How a person settles a review."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [examples.RESOLUTION]})

    letter: Annotated[str | None, Field(pattern="^[A-Z]$")] = Field(
        default=None, description="Letter that the answer selects; none for no answer."
    )
    reviewer: str = Field(min_length=1, max_length=200, description="Who settles it; kept in the audit log.")
    note: str = Field(default="", max_length=10_000)

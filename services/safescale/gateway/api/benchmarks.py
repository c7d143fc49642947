"""Benchmarks: upload, check, list, read."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from safescale.core.errors import BenchmarkError, Defect, LimitExceededError
from safescale.core.inputs.records import Source
from safescale.core.safety.benchmark.benchmark import Benchmark as CoreBenchmark
from safescale.core.safety.benchmark.benchmark import question_to_dict
from safescale.core.safety.benchmark.formats import Check, Needs, check_benchmark
from safescale.core.safety.conditions import condition
from safescale.gateway.access import MayCall
from safescale.gateway.api.idempotency import TAKES_KEY
from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.operations import answer, problems
from safescale.gateway.api.openapi.operations import body as describe_body
from safescale.gateway.api.openapi.schemas import (
    Benchmark,
    BenchmarkCheck,
    BenchmarkList,
    BenchmarkWithQuestions,
    DefectItem,
    StoredBenchmark,
)
from safescale.gateway.api.query import PREFIX
from safescale.gateway.clients import ask
from safescale.gateway.context import Gateway, GatewayOf
from safescale.gateway.http import body
from safescale.gateway.http.multipart import form_files
from safescale.gateway.http.problem import HttpError
from safescale.gateway.messages import plain
from safescale.rpc.convert import benchmark_from_proto, question_to_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.grpc.channels import MAX_MESSAGE_BYTES

router = APIRouter(prefix=PREFIX, tags=["benchmarks"])

MAX_SHOWN = 1000
FORMS = (*body.NDJSON, body.JSON, body.CSV, body.MULTIPART)

_BODY = describe_body(
    "One file in any of the forms, as JSONL, JSON or CSV; or multipart/form-data with one or more parts `questions` "
    "and at most one part `labels`. At most 32 MiB.",
    {
        body.NDJSON[0]: examples.QUESTION_LINE,
        body.JSON: examples.QUESTION_LINE,
        body.CSV: "question_id,question_text,option_A,option_B,correct_answer\n",
    },
)
_BODY["requestBody"]["content"][body.MULTIPART] = {
    "schema": {
        "type": "object",
        "properties": {"questions": {"type": "string"}, "labels": {"type": "string"}},
        "required": ["questions"],
    },
    "example": {"questions": examples.QUESTION_LINE},
}

MAY_IMPORT = MayCall(lambda services: services.orchestration.ImportBenchmark, pb.ImportBenchmarkRequest())
MAY_CHECK = MayCall(MAY_IMPORT.method, MAY_IMPORT.request, "read")

Name = Annotated[str, Query(min_length=1, max_length=200, description="Name for people.", examples=["radiology-mini"])]


async def _upload(request: Request, gateway: Gateway, name: str) -> tuple[list[Source], Source | None]:
    """Return the files of a body: questions, and labels where they are a file of their own."""
    kind = body.media_type(request, FORMS)
    data = await body.read_body(request, gateway, gateway.config.limits.benchmark_bytes)
    if kind != body.MULTIPART:
        return [Source(name, data)], None
    parts = await asyncio.to_thread(form_files, request.headers["content-type"], data)
    stray = sorted({part.field for part in parts} - {"questions", "labels"})
    if stray:
        raise HttpError(400, "INVALID_INPUT", f"parts {', '.join(stray)!r}; expected questions and labels")
    questions = [Source(part.name, part.data) for part in parts if part.field == "questions"]
    labels = [Source(part.name, part.data) for part in parts if part.field == "labels"]
    if not questions or len(labels) > 1:
        raise HttpError(400, "INVALID_INPUT", "expected at least one part questions and at most one part labels")
    return questions, labels[0] if labels else None


def _items(defects: tuple[Defect, ...]) -> list[DefectItem]:
    return [DefectItem(**asdict(each)) for each in defects[:MAX_SHOWN]]


@router.post(
    "/benchmarks",
    operation_id="importBenchmark",
    dependencies=[Depends(MAY_IMPORT), TAKES_KEY],
    summary="Store a benchmark",
    status_code=201,
    responses={
        201: answer(StoredBenchmark, "Stored."),
        200: answer(StoredBenchmark, "The same questions were stored already; nothing changed."),
        **problems(408, 413, 415, 429),
    },
    openapi_extra=_BODY,
)
async def import_benchmark(
    request: Request,
    response: Response,
    gateway: GatewayOf,
    name: Name = "benchmark",
    clinician_validated: Annotated[bool, Query(description="Whether clinicians validated it.")] = False,
) -> StoredBenchmark:
    """Check a benchmark and store it under the hash of its questions. Every option needs its safety labels."""
    with gateway.uploads.take():
        sources, labels = await _upload(request, gateway, name)
        needs = Needs(texts=True, labels=True)
        check = await asyncio.to_thread(check_benchmark, name, sources, labels=labels, needs=needs)
        if check.benchmark is None:
            count = len(check.defects)
            message = f"the benchmark has {count} defect{'s' if count > 1 else ''}: {check.defects[0]}"
            raise BenchmarkError(message, defects=check.defects)
        message_of = await asyncio.to_thread(_import_request, check.benchmark, clinician_validated)
        stored = await ask(gateway.services.orchestration.ImportBenchmark, message_of, gateway.config.deadlines.slow_s)
    response.status_code = 201 if stored.created else 200
    response.headers["Location"] = f"/api/v1/benchmarks/{stored.benchmark.benchmark_id}"
    return StoredBenchmark(
        benchmark=Benchmark.model_validate(plain(stored.benchmark)),
        created=stored.created,
        warnings=[*_contradictions(message_of, stored.benchmark), *_items(check.warnings)],
    )


def _contradictions(asked: pb.ImportBenchmarkRequest, stored: pb.Benchmark) -> list[DefectItem]:
    """Return where a request contradicts the stored benchmark of the same questions, which is kept."""
    pairs = [
        ("name", asked.name, stored.name),
        ("clinician_validated", str(asked.clinician_validated).lower(), str(stored.clinician_validated).lower()),
    ]
    expected = "{}, as it is stored; the spec of a run can say otherwise for that run, under benchmark"
    return [
        DefectItem(file="query", line=None, item=None, field=field, value=said, expected=expected.format(there))
        for field, said, there in pairs
        if said != there
    ]


def _import_request(benchmark: CoreBenchmark, validated: bool) -> pb.ImportBenchmarkRequest:
    questions = [question_to_proto(question) for question in benchmark.questions]
    message = pb.ImportBenchmarkRequest(name=benchmark.name, questions=questions, clinician_validated=validated)
    size = message.ByteSize()
    if size > MAX_MESSAGE_BYTES:
        raise LimitExceededError(f"the questions have {size:,} bytes; the limit is {MAX_MESSAGE_BYTES:,}")
    return message


@router.post(
    "/validations/benchmark",
    operation_id="validateBenchmark",
    dependencies=[Depends(MAY_CHECK)],
    summary="Check a benchmark without storing it",
    responses={200: answer(BenchmarkCheck, "What is wrong with it, if anything."), **problems(408, 413, 415, 429)},
    openapi_extra=_BODY,
)
async def validate_benchmark(
    request: Request,
    gateway: GatewayOf,
    name: Name = "benchmark",
    condition_ids: Annotated[
        list[str],
        Query(alias="for", max_length=20, description="Condition that is to be run with it.", examples=[["zero_shot"]]),
    ] = [],  # noqa: B006 (read only)
) -> BenchmarkCheck:
    """List every defect. With `for`, question texts, labels and the evidence of those conditions must be there."""
    wanted = tuple(condition(each).id for each in condition_ids)
    with gateway.uploads.take():
        sources, labels = await _upload(request, gateway, name)
        needs = Needs(conditions=wanted, texts=bool(wanted), labels=bool(wanted))
        check = await asyncio.to_thread(check_benchmark, name, sources, labels=labels, needs=needs)
        return await asyncio.to_thread(_check_result, check)


def _check_result(check: Check) -> BenchmarkCheck:
    found = check.benchmark
    return BenchmarkCheck(
        valid=found is not None,
        defects=_items(check.defects),
        warnings=_items(check.warnings),
        benchmark_id=found.content_hash if found else None,
        question_count=len(found.questions) if found else 0,
        labelled=found.labelled if found else False,
    )


@router.get(
    "/benchmarks",
    operation_id="listBenchmarks",
    summary="List the benchmarks",
    responses={200: answer(BenchmarkList, "All of them."), **problems()},
)
async def list_benchmarks(gateway: GatewayOf) -> BenchmarkList:
    """All benchmarks, ordered by id, without their questions."""
    call = gateway.services.orchestration.ListBenchmarks
    found = await ask(call, pb.ListBenchmarksRequest(), gateway.config.deadlines.quick_s)
    return BenchmarkList(items=[Benchmark.model_validate(plain(each)) for each in found.benchmarks])


@router.get(
    "/benchmarks/{benchmark_id}",
    operation_id="getBenchmark",
    summary="Read a benchmark",
    responses={200: answer(BenchmarkWithQuestions, "The benchmark with its questions."), **problems(404)},
)
async def get_benchmark(
    gateway: GatewayOf,
    benchmark_id: Annotated[
        str, Path(pattern="^[0-9a-f]{64}$", description="Its id.", examples=[examples.BENCHMARK["benchmark_id"]])
    ],
) -> BenchmarkWithQuestions:
    """Return a benchmark with its questions, their truth and their labels."""
    call = gateway.services.orchestration.GetBenchmark
    found = await ask(call, pb.GetBenchmarkRequest(benchmark_id=benchmark_id), gateway.config.deadlines.quick_s)
    return await asyncio.to_thread(_with_questions, found)


def _with_questions(found: pb.GetBenchmarkResponse) -> BenchmarkWithQuestions:
    named = found.benchmark
    benchmark = benchmark_from_proto(named.name, found.questions, named.clinician_validated)
    questions: list[dict[str, Any]] = [question_to_dict(question) for question in benchmark.questions]
    return BenchmarkWithQuestions(**plain(named), questions=questions)

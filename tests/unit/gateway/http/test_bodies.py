"""Uploads: sizes, media types, defects, and what reaches the services."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from safescale.core.errors import LimitExceededError
from safescale.gateway.config import Limits
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.retrieval.v1 import retrieval_pb2

LINES = {"Content-Type": "application/x-ndjson"}
QUESTION = {
    "question_id": "q1",
    "question_text": "Which sign?",
    "options": {"A": "one", "B": "two"},
    "correct_answer": "A",
    "labels": {letter: {"high_risk": 0, "unsafe": 0, "contradicts": 0} for letter in "AB"},
}


def imported(request: orchestration_pb2.ImportBenchmarkRequest) -> orchestration_pb2.ImportBenchmarkResponse:
    return orchestration_pb2.ImportBenchmarkResponse(
        benchmark=orchestration_pb2.Benchmark(
            benchmark_id="b" * 64, name=request.name, question_count=len(request.questions)
        ),
        created=request.name == "new",
    )


def ingested(parts: list[retrieval_pb2.IngestCorpusRequest]) -> retrieval_pb2.IngestCorpusResponse:
    corpus = retrieval_pb2.Corpus(corpus_id="c", name=parts[0].header.name, document_count=len(parts) - 1)
    return retrieval_pb2.IngestCorpusResponse(corpus=corpus, created=True)


async def test_a_benchmark_is_stored_or_was_there(world) -> None:
    world.fakes.on("ImportBenchmark", imported)
    body = json.dumps(QUESTION)
    new = await world.client.post("/api/v1/benchmarks?name=new", content=body, headers=LINES)
    assert (new.status_code, new.json()["created"]) == (201, True)
    assert new.headers["Location"] == f"/api/v1/benchmarks/{'b' * 64}"
    old = await world.client.post("/api/v1/benchmarks?name=old", content=body, headers=LINES)
    assert (old.status_code, old.json()["created"]) == (200, False)


async def test_words_that_the_stored_benchmark_contradicts_are_told(world) -> None:
    stored = orchestration_pb2.Benchmark(benchmark_id="b" * 64, name="first", clinician_validated=False)
    world.fakes.on("ImportBenchmark", orchestration_pb2.ImportBenchmarkResponse(benchmark=stored, created=False))
    path = "/api/v1/benchmarks?name=second&clinician_validated=true"
    found = await world.client.post(path, content=json.dumps(QUESTION), headers=LINES)
    warnings = {each["field"]: (each["value"], each["expected"]) for each in found.json()["warnings"]}
    assert found.status_code == 200
    assert warnings["name"][0] == "second"
    assert warnings["name"][1].startswith("first, as it is stored")
    assert warnings["clinician_validated"][0] == "true"
    path = "/api/v1/benchmarks?name=first"
    assert (await world.client.post(path, content=json.dumps(QUESTION), headers=LINES)).json()["warnings"] == []


async def test_questions_and_labels_may_be_two_files(world) -> None:
    world.fakes.on("ImportBenchmark", imported)
    question = {key: value for key, value in QUESTION.items() if key != "labels"}
    files = {"questions": ("q.jsonl", json.dumps(question)), "labels": ("l.jsonl", json.dumps(QUESTION))}
    found = await world.client.post("/api/v1/benchmarks?name=new&clinician_validated=true", files=files)
    assert found.status_code == 201, found.text
    [(_, request)] = world.fakes.asked
    assert request.clinician_validated
    assert set(request.questions[0].labels) == {"A", "B"}
    stray = await world.client.post("/api/v1/benchmarks", files={"question": ("q.jsonl", "x")})
    assert (stray.status_code, "'question'; expected questions and labels" in stray.json()["detail"]) == (400, True)
    alone = await world.client.post("/api/v1/benchmarks", files={"labels": ("q.jsonl", "x")})
    assert alone.status_code == 400


async def test_defects_of_a_benchmark_are_listed_and_nothing_is_stored(world) -> None:
    body = json.dumps({**QUESTION, "correct_answer": "F", "labels": {}}) + "\nnonsense"
    found = await world.client.post("/api/v1/benchmarks?name=mine", content=body, headers=LINES)
    assert (found.status_code, found.json()["reason"]) == (400, "INVALID_BENCHMARK")
    assert len(found.json()["defects"]) >= 2
    assert any(defect.startswith("mine:2:") for defect in found.json()["defects"])
    assert not world.fakes.asked


async def test_a_check_stores_nothing_and_tells_each_part_of_a_defect(world) -> None:
    found = await world.client.post(
        "/api/v1/validations/benchmark?for=evidence_clean", content=json.dumps(QUESTION), headers=LINES
    )
    body = found.json()
    assert (found.status_code, body["valid"], body["benchmark_id"]) == (200, False, None)
    assert body["defects"][0]["field"] == "evidence_clean"
    found = await world.client.post("/api/v1/validations/benchmark", content=json.dumps(QUESTION), headers=LINES)
    assert (found.json()["valid"], found.json()["question_count"], found.json()["labelled"]) == (True, 1, True)
    found = await world.client.post("/api/v1/validations/benchmark?for=evidence", content="x", headers=LINES)
    assert (found.status_code, "unknown condition" in found.json()["detail"]) == (400, True)
    assert not world.fakes.asked


@pytest.mark.parametrize("limits", [Limits(benchmark_bytes=100, corpus_bytes=100, spec_bytes=100, review_bytes=100)])
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/benchmarks", "application/json"),
        ("/api/v1/validations/benchmark", "text/csv"),
        ("/api/v1/corpora", "application/jsonl"),
        ("/api/v1/validations/corpus", "application/x-ndjson"),
        ("/api/v1/runs", "application/yaml"),
        ("/api/v1/plans", "application/json"),
        ("/api/v1/reviews/a/b/resolution", "application/json"),
    ],
)
async def test_sizes_are_limited_with_and_without_being_told(world, path: str, kind: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 10

    for content in (b"x" * 101, parts()):
        found = await world.client.post(path, content=content, headers={"Content-Type": kind})
        assert (found.status_code, found.json()["reason"]) == (413, "LIMIT_EXCEEDED"), found.text
        assert "100 bytes" in found.json()["detail"]


async def test_a_limit_of_a_service_is_413_too(world) -> None:
    world.fakes.on(
        "IngestCorpus", LimitExceededError("document 1: text has 5,000,000 bytes; expected at most 4,194,304")
    )
    body = json.dumps({"id": "a", "text": "x"})
    found = await world.client.post("/api/v1/corpora", content=body, headers=LINES)
    assert (found.status_code, found.json()["detail"][:12]) == (413, "document 1: ")


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {**LINES, "Content-Encoding": "gzip"}])
async def test_other_media_types_are_415(world, headers: dict[str, str]) -> None:
    found = await world.client.post("/api/v1/corpora", content="x", headers=headers)
    assert (found.status_code, found.json()["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert "expected" in found.json()["detail"]


async def test_a_sender_that_falls_silent_is_408(world) -> None:
    async def silent() -> AsyncIterator[bytes]:
        yield b'{"id": "a"'
        await asyncio.sleep(30)

    found = await world.client.post("/api/v1/benchmarks", content=silent(), headers=LINES)
    assert (found.status_code, found.json()["retryable"]) == (408, True)


async def test_an_empty_body_says_so(world) -> None:
    found = await world.client.post("/api/v1/benchmarks", content=b"", headers=LINES)
    assert (found.status_code, "the body is empty" in found.json()["detail"]) == (400, True)
    world.fakes.on("IngestCorpus", ingested)
    found = await world.client.post("/api/v1/corpora", content=b"\n \n", headers=LINES)
    assert (found.status_code, found.json()["reason"]) == (400, "INVALID_CORPUS")


async def test_a_corpus_reaches_the_service_whole_and_in_order(world) -> None:
    world.fakes.on("IngestCorpus", ingested)
    documents = [{"id": f"d{number}", "title": "t", "text": "x" * 400} for number in range(1000)]
    body = "\n".join(map(json.dumps, documents)).encode()

    async def parts() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), 7919):
            yield body[begin : begin + 7919]

    found = await world.client.post("/api/v1/corpora?name=mine", content=parts(), headers=LINES)
    assert (found.status_code, found.json()["corpus"]["document_count"]) == (201, 1000)
    [(_, sent)] = world.fakes.asked
    assert sent[0].header.name == "mine"
    assert [part.document.id for part in sent[1:]] == [document["id"] for document in documents]


async def test_a_corpus_with_a_defect_is_stored_nowhere(world) -> None:
    world.fakes.on("IngestCorpus", ingested)
    body = '{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n{"id": "b"}\n'
    found = await world.client.post("/api/v1/corpora?name=mine", content=body, headers=LINES)
    assert (found.status_code, found.json()["reason"]) == (400, "INVALID_CORPUS")
    assert [defect[:7] for defect in found.json()["defects"]] == ["mine:2:", "mine:3:"]
    # The call was broken off before its end: the service never had a document.
    await asyncio.sleep(0.05)
    assert not [part for _, parts in world.fakes.asked for part in parts if part.HasField("document")]
    checked = await world.client.post("/api/v1/validations/corpus", content=body, headers=LINES)
    assert (checked.json()["valid"], checked.json()["document_count"]) == (False, 1)
    assert [each["line"] for each in checked.json()["defects"]] == [2, 3]


@pytest.mark.parametrize("limits", [Limits(uploads=0)])
async def test_too_many_uploads_at_once_are_429(world) -> None:
    found = await world.client.post("/api/v1/corpora", content="x", headers=LINES)
    assert (found.status_code, found.json()["reason"], found.headers["Retry-After"]) == (429, "TOO_MANY_REQUESTS", "5")

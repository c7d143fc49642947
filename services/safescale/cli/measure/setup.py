"""Benchmark and corpus of a run file are brought to the services."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from safescale.cli.session import Client
from safescale.core.inputs.corpus import CorpusDocument, load_corpus
from safescale.core.safety.benchmark.formats import Needs, load_benchmark
from safescale.formats.run_spec import RunFile
from safescale.rpc.convert import question_to_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.retrieval.v1 import retrieval_pb2
from safescale.runtime.files.reading import read_source
from safescale.runtime.grpc.channels import rpc_errors

INGEST_DEADLINE_S = 24 * 3600.0
IMPORT_DEADLINE_S = 300.0


async def import_benchmark(client: Client, run_file: RunFile, spec_path: Path) -> str:
    """Read, check and store the benchmark of a run file; its id.

    Raises:
        BenchmarkError: with every defect.

    """
    files = run_file.benchmark_files()
    path = resolve_path(spec_path, files.questions)
    labels = read_source(resolve_path(spec_path, files.labels)) if files.labels else None
    # Evidence is checked by the services, which know the questions chosen.
    benchmark = load_benchmark(path.stem, [read_source(path)], labels=labels, needs=Needs(texts=True, labels=True))
    request = orchestration_pb2.ImportBenchmarkRequest(
        name=benchmark.name,
        questions=[question_to_proto(question) for question in benchmark.questions],
        clinician_validated=bool(files.clinician_validated),
    )
    with rpc_errors():
        response = await client.orchestration.ImportBenchmark(request, timeout=IMPORT_DEADLINE_S)
    return response.benchmark.benchmark_id


async def ingest_corpus(client: Client, name: str, paths: Sequence[Path]) -> retrieval_pb2.IngestCorpusResponse:
    """Read, check and ingest a corpus of JSONL files.

    Raises:
        CorpusError: with every defect.

    """
    documents = load_corpus([read_source(path) for path in paths])
    with rpc_errors():
        return await client.retrieval.IngestCorpus(_parts(name, documents), timeout=INGEST_DEADLINE_S)


async def _parts(name: str, documents: Sequence[CorpusDocument]) -> AsyncIterator[retrieval_pb2.IngestCorpusRequest]:
    yield retrieval_pb2.IngestCorpusRequest(header=retrieval_pb2.IngestHeader(name=name))
    for document in documents:
        yield retrieval_pb2.IngestCorpusRequest(
            document=retrieval_pb2.Document(id=document.id, title=document.title, text=document.text)
        )


def resolve_path(spec_file: Path, name: str) -> Path:
    """Path named in a spec: relative to the folder of the spec file."""
    path = Path(name)
    return path if path.is_absolute() else spec_file.parent / path

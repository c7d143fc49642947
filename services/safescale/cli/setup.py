"""From a run file to a request: benchmark and corpus are brought to the services, the spec is filled in."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from safescale.cli.session import Client
from safescale.cli.spec import RunFile, resolve_path
from safescale.core.benchmark_formats import Needs, load_benchmark
from safescale.core.conditions import CONDITION_IDS
from safescale.core.corpus import Document, load_corpus
from safescale.rpc.convert import question_to_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.retrieval.v1 import retrieval_pb2
from safescale.runtime.channels import rpc_errors
from safescale.runtime.files import read_source

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
        clinician_validated=files.clinician_validated,
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


async def _parts(name: str, documents: Sequence[Document]) -> AsyncIterator[retrieval_pb2.IngestCorpusRequest]:
    yield retrieval_pb2.IngestCorpusRequest(header=retrieval_pb2.IngestHeader(name=name))
    for document in documents:
        yield retrieval_pb2.IngestCorpusRequest(
            document=retrieval_pb2.Document(id=document.id, title=document.title, text=document.text)
        )


def to_spec(run_file: RunFile, benchmark_id: str, corpus_id: str) -> orchestration_pb2.RunSpec:
    """The spec as the services take it; conditions in the paper's order."""
    consistency = run_file.regimes.self_consistency
    known = [name for name in CONDITION_IDS if name in run_file.conditions]
    unknown = [name for name in run_file.conditions if name not in CONDITION_IDS]
    repeated = [name for name in known if run_file.conditions.count(name) > 1]
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
        question_ids=run_file.questions.ids,
        question_limit=run_file.questions.limit,
        max_new_tokens=run_file.max_new_tokens,
        fresh=run_file.fresh,
    )

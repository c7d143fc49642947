"""Planning a run of the paper's size, and the metrics of its verdicts.

    python bench/bench_planning.py [--models 34] [--questions 200]

34 models x 11 conditions x 200 questions are 74,800 cells of 1 + 20 answers. Measured are the seconds from CreateRun to
the last request for a cell on Kafka, and orchestration's CPU and highest memory. Retrieval is played by this process,
which answers each request for a context at once with the id of one; inference and scoring are idle meanwhile, as
they would not be on this machine. Then as many verdicts are written to Elasticsearch, and GetRunMetrics is timed.
"""

import argparse
import asyncio
import json
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from grid_processes import Grid, Stores, channel, cpu_s, memory_mb, stores, stubs
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition  # type: ignore[import-untyped]

from safescale.core.safety.conditions import CONDITIONS
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.events.v1 import events_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.orchestration.v1 import orchestration_pb2_grpc
from safescale.rpc.retrieval.v1 import retrieval_pb2, retrieval_pb2_grpc
from safescale.rpc.scoring.v1 import scoring_pb2, scoring_pb2_grpc
from safescale.runtime.bus import topics
from safescale.runtime.documents.elastic import ElasticDocuments
from safescale.runtime.elastic import ElasticConnection
from safescale.runtime.settings import Settings
from safescale.runtime.telemetry import Telemetry
from safescale.scoring.records import VerdictStore

SAMPLES = 20
LETTERS = "ABCDE"
OPTIONS = {letter: f"A diagnosis that fits the findings, number {letter}" for letter in LETTERS}
EVIDENCE = "A sentence of evidence says what is known of the findings. " * 10
REPORT = "A sentence of the report weighs an option against the findings. " * 60
FAMILIES = ("Alpha", "Beta", "Gamma", "Delta", "Epsilon")
DEADLINE_S = 900.0
AWAY = ("inference", "scoring", "retrieval")


def questions(count: int) -> list[common_pb2.Question]:
    """Return a benchmark of that many questions, with evidence and reports."""
    return [
        common_pb2.Question(
            stem=common_pb2.QuestionStem(
                question_id=f"q{number:04d}", question_text=f"{EVIDENCE[:400]} What is it? ({number})", options=OPTIONS
            ),
            correct_answer=LETTERS[number % 5], subspecialty=f"field {number % 7}", question_type="diagnosis",
            evidence_clean=f"{EVIDENCE} ({number})", evidence_conflict=f"{EVIDENCE} (not {number})",
            deep_research_report=f"{REPORT} ({number})",
            labels={
                letter: common_pb2.OptionLabels(
                    high_risk=letter == LETTERS[(number + 1) % 5], unsafe=letter == LETTERS[(number + 2) % 5],
                    contradicts=letter == LETTERS[(number + 1) % 5],
                )
                for letter in LETTERS
            },
        )
        for number in range(count)
    ]  # fmt: skip


class Contexts(threading.Thread):
    """Answers requests for contexts at once."""

    def __init__(self, kafka: str) -> None:
        super().__init__(daemon=True)
        self._consumer = KafkaConsumer(topics.CONTEXT_REQUESTED, bootstrap_servers=kafka, group_id=None,
                                       auto_offset_reset="earliest", max_poll_records=2000)  # fmt: skip
        self._producer = KafkaProducer(bootstrap_servers=kafka, linger_ms=5, batch_size=128 * 1024)
        self.answered = 0
        self.ending = threading.Event()

    def run(self) -> None:
        """Answer until stopped."""
        while not self.ending.is_set():
            for records in self._consumer.poll(timeout_ms=100).values():
                for record in records:
                    asked = events_pb2.ContextRequested.FromString(record.value)
                    built = events_pb2.ContextBuilt(
                        run_id=asked.run_id, condition=asked.condition, question_id=asked.question_id,
                        model=asked.model, context=common_pb2.ContextRef(context_id="0" * 64), attempt=asked.attempt,
                    )  # fmt: skip
                    value = built.SerializeToString()
                    self._producer.send(topics.CONTEXT_BUILT, value=value, key=record.key, headers=record.headers)
                    self.answered += 1
        self._consumer.close()
        self._producer.close()


class Published:
    """Counts the requests for cells that are on Kafka."""

    def __init__(self, kafka: str) -> None:
        admin = KafkaAdminClient(bootstrap_servers=kafka)
        names = [name for name in admin.list_topics() if name.startswith(topics.GENERATION_REQUESTED_PREFIX)]
        admin.close()
        self._consumer = KafkaConsumer(bootstrap_servers=kafka)
        self._places = [
            TopicPartition(name, number) for name in names for number in self._consumer.partitions_for_topic(name)
        ]

    def count(self) -> int:
        """Messages in all topics of cells."""
        return sum(self._consumer.end_offsets(self._places).values())


def spec_of(grid: Grid, models: Sequence[str], count: int) -> pb.RunSpec:
    """Import benchmark and corpus; the run to create."""
    with channel(grid.address("orchestration")) as to, channel(grid.address("retrieval")) as other:
        stub = orchestration_pb2_grpc.OrchestrationServiceStub(to)
        imported = stub.ImportBenchmark(
            pb.ImportBenchmarkRequest(name="paper scale", questions=questions(count)), timeout=60
        )
        parts = [
            retrieval_pb2.IngestCorpusRequest(header=retrieval_pb2.IngestHeader(name="bench")),
            retrieval_pb2.IngestCorpusRequest(document=retrieval_pb2.Document(id="1", title="One", text=EVIDENCE)),
        ]
        corpus = retrieval_pb2_grpc.RetrievalServiceStub(other).IngestCorpus(iter(parts), timeout=120).corpus
        return pb.RunSpec(
            name="paper", benchmark_id=imported.benchmark.benchmark_id, models=models, corpus_id=corpus.corpus_id,
            conditions=[row.id for row in CONDITIONS], formulation="letter", greedy=True, samples=SAMPLES,
            temperature=0.7,
        )  # fmt: skip


def create(grid: Grid, spec: pb.RunSpec) -> str:
    """Create the run; its id."""
    with channel(grid.address("orchestration")) as to:
        stub = orchestration_pb2_grpc.OrchestrationServiceStub(to)
        return stub.CreateRun(pb.CreateRunRequest(spec=spec), timeout=120).run.run_id


def plan(grid: Grid, found: Stores, models: Sequence[str], count: int) -> str:
    """Time the planning; the run's id."""
    contexts, published = Contexts(found.kafka), Published(found.kafka)
    contexts.start()
    total = len(models) * len(CONDITIONS) * count
    pid = grid.processes["orchestration"].pid
    idle, spent = memory_mb(pid), cpu_s(pid)
    spec = spec_of(grid, models, count)
    begin = time.monotonic()
    run_id = create(grid, spec)
    for name in AWAY:
        grid.processes[name].send_signal(signal.SIGSTOP)
    created = time.monotonic() - begin
    while (done := published.count()) < total:
        if time.monotonic() - begin > DEADLINE_S:
            raise RuntimeError(f"{done} of {total} cells were asked for")
        time.sleep(0.1)
    wall = time.monotonic() - begin
    contexts.ending.set()
    contexts.join()
    # Inference is idle to the end: verdicts of its answers would come among those that are written next.
    grid.processes["scoring"].send_signal(signal.SIGCONT)
    print(
        f"planning {total:,} cells ({contexts.answered:,} contexts): {wall:.1f} s until the last request is on Kafka"
        f" (created after {created:.1f} s), orchestration CPU {cpu_s(pid) - spent:.1f} s, memory"
        f" {idle:.0f} MB before, {memory_mb(pid, 'VmHWM'):.0f} MB at most",
        flush=True,
    )
    return run_id


async def write_verdicts(store: VerdictStore, run_id: str, models: Sequence[str], count: int) -> int:
    """Write a verdict of 1 + 20 answers for each cell; their number."""
    rng = np.random.default_rng(0)
    written = 0
    for number, model in enumerate(models):
        verdicts = [
            _verdict(run_id, (model, row.id, question), rng.choice(list(LETTERS), SAMPLES + 1, p=_chances(number)))
            for row in CONDITIONS
            for question in range(count)
        ]
        written += sum(await asyncio.gather(*map(store.put, verdicts)))
    return written


def _chances(number: int) -> list[float]:
    sure = 0.3 + 0.5 * number / 50
    return [sure, *[(1 - sure) / 4] * 4]


def _verdict(run_id: str, cell: tuple[str, str, int], letters: Sequence[str]) -> scoring_pb2.Verdict:
    model, name, question = cell
    readings = [scoring_pb2.Reading(text=letter, letter=letter, parsed_letter=letter) for letter in letters]
    return scoring_pb2.Verdict(
        cell=common_pb2.CellKey(run_id=run_id, model=model, condition=name, question_id=f"q{question:04d}"),
        formulation=common_pb2.FORMULATION_LETTER, greedy=readings[0], samples=readings[1:], attempt=1,
        timings=common_pb2.Timings(greedy_s=0.5, samples_s=1.0), greedy_asked=True, samples_asked=SAMPLES,
        model_revision="stub", usage=common_pb2.Usage(prompt_tokens=400, generated_tokens=42),
    )  # fmt: skip


async def store_verdicts(settings: Settings, run_id: str, models: Sequence[str], count: int) -> int:
    """Write the verdicts with a store of this process."""
    documents = ElasticDocuments(ElasticConnection(settings, Telemetry()), settings.elasticsearch_prefix)
    try:
        return await write_verdicts(VerdictStore(documents), run_id, models, count)
    finally:
        await documents.close()


def metrics(grid: Grid, run_id: str, count: int) -> None:
    """Time GetRunMetrics, three times."""
    pid = grid.processes["scoring"].pid
    with channel(grid.address("scoring")) as to:
        stub = scoring_pb2_grpc.ScoringServiceStub(to)
        for turn in range(3):
            spent, begin = cpu_s(pid), time.monotonic()
            answer = stub.GetRunMetrics(scoring_pb2.GetRunMetricsRequest(run_id=run_id), timeout=300)
            wall = time.monotonic() - begin
            if answer.verdict_count != count:
                raise RuntimeError(f"{answer.verdict_count} of {count} verdicts were counted")
            print(
                f"GetRunMetrics of {count:,} verdicts, turn {turn + 1}: {wall:.1f} s, {len(answer.rows):,} rows,"
                f" scoring CPU {cpu_s(pid) - spent:.1f} s, memory {memory_mb(pid, 'VmHWM'):.0f} MB at most",
                flush=True,
            )


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=34)
    parser.add_argument("--questions", type=int, default=200)
    args = parser.parse_args()
    models = [f"model-{number:02d}" for number in range(args.models)]
    with tempfile.TemporaryDirectory() as folder, stores() as found, stubs({"stub": []}) as servers:
        rows = [
            {
                "id": model, "family": FAMILIES[number % 5], "parameters_b": round(0.5 * 1.25**number, 2) + 1,
                "window_tokens": 131072, "instruct": True, "license": "MIT", "backend": "openai",
                "endpoint": {"urls": [servers["stub"][0]], "served_model": "stub"},
            }
            for number, model in enumerate(models)
        ]  # fmt: skip
        catalog = Path(folder) / "models.yaml"
        catalog.write_text(json.dumps({"models": rows}))
        with Grid(found, catalog) as grid:
            run_id = plan(grid, found, models, args.questions)
            settings = Settings(elasticsearch=found.elasticsearch, elasticsearch_prefix=grid.prefix)
            begin = time.monotonic()
            count = asyncio.run(store_verdicts(settings, run_id, models, args.questions))
            print(f"{count:,} verdicts written in {time.monotonic() - begin:.1f} s", flush=True)
            metrics(grid, run_id, count)


if __name__ == "__main__":
    main()

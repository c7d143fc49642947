"""`safescale research`: look into the agent's work, or have one question researched."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from safescale.cli.measure.setup import ingest_corpus
from safescale.cli.runner import run_async
from safescale.cli.session import Client, session
from safescale.cli.terminal.research_view import print_research, progress_line
from safescale.cli.terminal.text import terminal
from safescale.core.errors import InvalidInputError, NotFoundError
from safescale.core.safety.benchmark.benchmark import Question
from safescale.core.safety.benchmark.formats import Needs, load_benchmark
from safescale.core.safety.research import ResearchSubject, research_id
from safescale.rpc.convert import stem_to_proto
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.files.reading import read_source
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings

app = typer.Typer(help="Show the research agent's work, or research one question.", no_args_is_help=True)

QUICK_S = 30.0
RESEARCH_S = 24 * 3600.0
POLL_S = 0.5


@app.command()
def show(
    research: Annotated[
        str, typer.Argument(help="Research id; leave it out to name a run and a question.", metavar="[RESEARCH_ID]")
    ] = "",
    run: Annotated[str, typer.Option(help="Run id, a unique prefix of it, or latest.", metavar="RUN")] = "",
    question: Annotated[str, typer.Option(help="Question of that run.", metavar="QUESTION_ID")] = "",
) -> None:
    """Print a research, also while it runs: concepts, plan, queries, passages, drafts, calls and the report."""
    if bool(research) == bool(run or question) or bool(run) != bool(question):
        raise InvalidInputError("expected a RESEARCH_ID, or --run RUN and --question QUESTION_ID")
    run_async(_show(load_settings(), research, run, question))


async def _show(settings: Settings, identifier: str, run: str, question_id: str) -> None:
    async with session(settings) as client:
        found = await _get(client, identifier or await _id_of_run(client, run, question_id))
    if found is None:
        what = f"research {identifier!r}" if identifier else f"research of question {question_id!r} by that run so far"
        raise NotFoundError(f"no {what}")
    print_research(terminal(), found)


async def _get(client: Client, identifier: str) -> pb.Research | None:
    """State of a research; None when there is none."""
    try:
        with rpc_errors():
            response = await client.orchestration.GetResearch(
                pb.GetResearchRequest(research_id=identifier), timeout=QUICK_S
            )
    except NotFoundError:
        return None
    return response.research


async def _id_of_run(client: Client, run: str, question_id: str) -> str:
    """Return the identifier of the research that a run makes of a question.

    Raises:
        NotFoundError: there is no such run, or it has no such question.
        InvalidInputError: the run has no agent.

    """
    with rpc_errors():
        stored = (await client.orchestration.GetRun(pb.GetRunRequest(run_id=run), timeout=QUICK_S)).run
        spec = stored.manifest.spec
        if not spec.agent_model:
            raise InvalidInputError(f"run {stored.run_id!r} names no agent model, so it has no research of its own")
        request = pb.GetBenchmarkRequest(benchmark_id=spec.benchmark_id)
        benchmark = await client.orchestration.GetBenchmark(request, timeout=QUICK_S)
    stems = {question.stem.question_id: question.stem for question in benchmark.questions}
    if question_id not in stems:
        raise NotFoundError(f"the benchmark of run {stored.run_id!r} has no question {question_id!r}")
    stem = stems[question_id]
    subject = ResearchSubject(
        stem.question_id, stem.question_text, dict(stem.options), spec.corpus_id, spec.agent_model,
        stored.manifest.agent_revision, stored.manifest.agent.fingerprint, stored.run_id if spec.fresh else "",
    )  # fmt: skip
    return research_id(subject)


@dataclass(frozen=True)
class ResearchOptions:
    """What the command line asks for."""

    question_id: str
    benchmark: Path
    corpus: Path
    model: str
    fresh: bool


@app.command()
def run(
    question_id: Annotated[str, typer.Option(help="Question to research.", metavar="ID")],
    benchmark: Annotated[Path, typer.Option(help="Benchmark file with the question.", metavar="FILE")],
    corpus: Annotated[Path, typer.Option(help="Corpus to search (JSONL with id, title, text).", metavar="FILE")],
    model: Annotated[str, typer.Option(help="Catalog id of the model that researches.")],
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Research again though a finished research is stored.")
    ] = False,
) -> None:
    """Research one question and print the work and the report; the same command goes on after an interruption."""
    options = ResearchOptions(question_id, benchmark, corpus, model, fresh)
    run_async(_run(load_settings(), options), hint="Stopped. The steps made are kept; the same command goes on.")


def _question(options: ResearchOptions) -> Question:
    source = read_source(options.benchmark)
    benchmark = load_benchmark(options.benchmark.stem, [source], needs=Needs(texts=True))
    for question in benchmark.questions:
        if question.question_id == options.question_id:
            return question
    raise NotFoundError(f"{options.benchmark} has no question {options.question_id!r}")


async def _run(settings: Settings, options: ResearchOptions) -> None:
    console = terminal()
    question = _question(options)
    async with session(settings) as client:
        with rpc_errors():
            request = inference_pb2.GetModelRequest(model=options.model)
            model = (await client.inference.GetModel(request, timeout=QUICK_S)).model
        with console.status(Text(f"Ingesting corpus {options.corpus.name} …")):
            corpus = (await ingest_corpus(client, options.corpus.stem, [options.corpus])).corpus
        subject = ResearchSubject(
            question.question_id, question.text, question.options, corpus.corpus_id, options.model, model.revision,
            model.fingerprint,
        )  # fmt: skip
        asked = pb.ResearchRequest(
            question=stem_to_proto(question), corpus_id=corpus.corpus_id, agent_model=options.model, fresh=options.fresh
        )
        async with _watched(console, client, research_id(subject)):
            with rpc_errors():
                response = await client.orchestration.Research(asked, timeout=RESEARCH_S)
    print_research(console, response.research)


@contextlib.asynccontextmanager
async def _watched(console: Console, client: Client, identifier: str) -> AsyncIterator[None]:
    """Show the state of a research while the body runs."""
    watching = asyncio.create_task(_watch(console, client, identifier))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(console: Console, client: Client, identifier: str) -> None:
    shown = ""
    with console.status(f"Researching ({identifier[:12]}) …") as status:
        while True:
            await asyncio.sleep(POLL_S)
            state = await _get(client, identifier)
            line = progress_line(state) if state is not None else ""
            if line != shown:
                shown = line
                status.update(line)
                if not console.is_terminal:
                    console.print(line, highlight=False, markup=False, soft_wrap=True)

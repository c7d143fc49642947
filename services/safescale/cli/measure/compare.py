"""`safescale compare`: may a candidate replace the baseline? Both on the same questions, question by question."""

import asyncio
import csv
import importlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from google.protobuf import json_format
from google.protobuf.message import Message

from safescale.cli.measure.gate import EXIT_CODES, Baseline, checked_policy, judged, show_judgement
from safescale.cli.measure.report import say_undrawn
from safescale.cli.measure.results import METRICS_DEADLINE_S, QUICK_S, fetch_benchmark, fetch_run
from safescale.cli.runner import EXIT_FAILED, run_async
from safescale.cli.session import Client, session
from safescale.cli.terminal.compare_view import comparison_tables, print_flips
from safescale.cli.terminal.text import say, terminal
from safescale.core.errors import InvalidInputError, SafescaleError
from safescale.core.safety.benchmark.benchmark import Question
from safescale.formats.gate_words import summary
from safescale.formats.spreadsheet import guarded_row
from safescale.rpc.orchestration.v1.orchestration_pb2 import Run
from safescale.rpc.policies import verdict_of
from safescale.rpc.retrieval.v1 import retrieval_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.files.atomic import write_text
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings

Format = Literal["table", "json", "csv"]

LISTED = 10

CONTEXTS_OF_FLIPS = 200
"""Flips whose contexts are read for a page: as many as it shows."""

READS_AT_ONCE = 8
"""Contexts that are read at once."""


def compare(
    candidate: Annotated[
        str, typer.Argument(help="Run of the candidate: its id, a unique prefix of it, or latest.", metavar="CANDIDATE")
    ],
    baseline: Annotated[
        str, typer.Argument(help="Run of the baseline; left out with --models of one run.", metavar="BASELINE")
    ] = "",
    models: Annotated[
        tuple[str, str], typer.Option(help="Model of the candidate and of the baseline.", metavar="A B")
    ] = ("", ""),
    form: Annotated[Format, typer.Option("--format", help="table; json: rows and flips; csv: rows.")] = "table",
    html: Annotated[Path | None, typer.Option(help="Write the comparison as one self-contained page too.")] = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy (YAML) to judge the candidate by; its verdict is the exit code.")
    ] = None,
    flips: Annotated[int, typer.Option(min=0, help="Questions that differ which the table lists.")] = LISTED,
) -> None:
    """Compare a run with a baseline question by question: accuracy and every harm, with intervals and tests."""
    if not baseline and not any(models):
        raise InvalidInputError("BASELINE is missing; expected a second run, or --models A B for two models of one run")
    request = pb.CompareRunsRequest(
        candidate_run_id=candidate,
        baseline_run_id=baseline,
        candidate_model=models[0],
        baseline_model=models[1],
    )
    raise typer.Exit(run_async(_compare(load_settings(), request, _Output(form, flips, html, policy))))


@dataclass(frozen=True)
class _Output:
    """What is written: the form on standard output, the flips that a table lists, the page; what judges it."""

    form: Format
    listed: int
    html: Path | None
    policy: Path | None


async def _compare(settings: Settings, request: pb.CompareRunsRequest, output: _Output) -> int:
    """Write a comparison; return the exit code: that of the verdict, or 1 where the page lacks a picture."""
    text = checked_policy(output.policy) if output.policy is not None else ""
    if output.html is not None:
        # A missing package is named before services are hosted for nothing.
        importlib.import_module("safescale.report.frames")
    async with session(settings) as client:
        # Named once: `latest` may be another run a moment later.
        stored = await fetch_run(client, request.candidate_run_id)
        request.candidate_run_id = stored.run_id
        with rpc_errors():
            response = await client.scoring.CompareRuns(request, timeout=METRICS_DEADLINE_S)
        benchmark = await fetch_benchmark(client, stored.manifest.spec.benchmark_id)
        questions = {question.question_id: question for question in benchmark.questions}
        judgement: pb.EvaluatePolicyResponse | None = None
        undrawn: tuple[str, ...] = ()
        if text:
            models = (request.candidate_model, request.baseline_model)
            judgement = await judged(client, stored, text, Baseline(response.baseline_run_id, models))
        if output.html is not None:
            undrawn = await _write_page(client, response, (stored, questions, judgement), output.html)
    if judgement is not None:
        # What the comparison says of itself is said once.
        told = [note for note in judgement.notes if note not in response.notes]
        judgement.notes[:] = told
    code = 0 if judgement is None else EXIT_CODES[verdict_of(judgement)]
    if output.form == "table":
        _print(response, questions, output.listed)
        if judgement is not None:
            show_judgement(judgement, (stored.run_id, output.policy))
    else:
        record = record_of(response, judgement)
        typer.echo(orjson.dumps(record, option=orjson.OPT_INDENT_2) if output.form == "json" else csv_of(response))
        for line in [*response.notes, *([] if judgement is None else [*judgement.notes, summary(judgement)])]:
            say(line, err=True)
    if output.html is not None:
        say(output.html, err=output.form != "table")
        say_undrawn(undrawn)
    return code or (EXIT_FAILED if undrawn else 0)


async def _write_page(
    client: Client,
    response: pb.CompareRunsResponse,
    known: tuple[Run, Mapping[str, Question], pb.EvaluatePolicyResponse | None],
    path: Path,
) -> tuple[str, ...]:
    """Write the page; return a sentence for each picture that could not be drawn.

    Raises:
        StorageError: the file cannot be written.

    """
    from safescale.report.port import ComparisonResults, comparison_page
    from safescale.report.registry import run_renderers

    stored, questions, judgement = known
    same = response.baseline_run_id == stored.run_id
    baseline = stored if same else await fetch_run(client, response.baseline_run_id)
    contexts = await _fetch_contexts(client, response.flips[:CONTEXTS_OF_FLIPS])
    results = ComparisonResults(response, stored, baseline, questions, contexts, datetime.now(UTC), judgement)
    page = comparison_page(run_renderers(), results)
    write_text(path, page.html)
    return page.undrawn


async def _fetch_contexts(client: Client, flips: Iterable[pb.Flip]) -> dict[str, str]:
    """Return the stored contexts of flips by id; those that cannot be read are left out, and the page says so."""
    wanted = dict.fromkeys(
        context for flip in flips for context in (flip.candidate_context_id, flip.baseline_context_id) if context
    )
    places = asyncio.Semaphore(READS_AT_ONCE)

    async def read(context_id: str) -> str | None:
        request = retrieval_pb2.GetContextRequest(context_id=context_id)
        async with places:
            try:
                with rpc_errors():
                    return (await client.retrieval.GetContext(request, timeout=QUICK_S)).context.text
            except SafescaleError:
                return None

    texts = await asyncio.gather(*map(read, wanted))
    return {name: text for name, text in zip(wanted, texts, strict=True) if text is not None}


def _print(response: pb.CompareRunsResponse, questions: Mapping[str, Question], listed: int) -> None:
    console = terminal()
    if response.candidate_run_id == response.baseline_run_id:
        console.print(f"Two models of run {response.candidate_run_id}")
    else:
        console.print(f"Candidate {response.candidate_run_id} against baseline {response.baseline_run_id}")
    for table in comparison_tables(response):
        console.print(table)
    for note in response.notes:
        console.print(note, style="yellow")
    print_flips(console, response, questions, listed)


def record_of(response: pb.CompareRunsResponse, judgement: pb.EvaluatePolicyResponse | None = None) -> dict[str, Any]:
    """Return a comparison as a JSON object, fields named as in the protos; the judgement is under `judgement`."""

    def plain(message: Message) -> dict[str, Any]:
        found: dict[str, Any] = json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return found

    return plain(response) | ({} if judgement is None else {"judgement": plain(judgement)})


def csv_of(response: pb.CompareRunsResponse) -> str:
    """Return the rows of a comparison as CSV with a header."""
    names = [field.name for field in pb.PairedRow.DESCRIPTOR.fields]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(guarded_row({name: _cell(row, name) for name in names}) for row in response.rows)
    return text.getvalue().rstrip("\n")


def _cell(row: pb.PairedRow, name: str) -> Any:
    """Return a field of a row; nothing where it is absent."""
    return getattr(row, name) if name != "n_effective" or row.HasField("n_effective") else None

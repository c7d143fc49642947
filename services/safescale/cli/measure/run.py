"""`safescale run`: a measurement from its spec to its table and report."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from safescale.cli.measure.gate import checked_policy
from safescale.cli.measure.plan import policy_plan
from safescale.cli.measure.report import say_undrawn, write_report
from safescale.cli.measure.results import failed_verdicts, fetch_run, run_metrics
from safescale.cli.measure.setup import import_benchmark, ingest_corpus, resolve_path
from safescale.cli.runner import run_async
from safescale.cli.session import Client, session
from safescale.cli.terminal.live import duration, follow, watched
from safescale.cli.terminal.origins import cached_line, warning_lines
from safescale.cli.terminal.output import lasting_terminal, tell
from safescale.cli.terminal.tables import failure_lines, missing_lines, print_readings, safety_table, skip_lines
from safescale.core.errors import InvalidInputError, SafescaleError
from safescale.formats.run_spec import RunFile, parse_run_file, to_spec
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.readings import reading_of
from safescale.runtime.errors import error_of_failure
from safescale.runtime.extras import lacking
from safescale.runtime.files.atomic import write_text
from safescale.runtime.files.reading import read_source
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings

CREATE_DEADLINE_S = 600.0


@dataclass(frozen=True)
class RunOptions:
    """What the command line asks for."""

    spec_path: Path
    new: bool
    fresh: bool
    dry_run: bool
    out: Path | None
    id_file: Path | None
    policy: Path | None = None


def run(
    spec: Annotated[Path, typer.Argument(help="Run spec (YAML).", metavar="SPEC.yaml")],
    new: Annotated[bool, typer.Option("--new", help="Start another run though one of the same spec exists.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ask the models even where the generation cache has their answers.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the spec and print cells, tokens, cost and estimated time only.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the report; the run's id is added.")] = Path("out"),
    no_report: Annotated[bool, typer.Option("--no-report", help="Print the table alone.")] = False,
    id_file: Annotated[
        Path | None, typer.Option(help="File for the run's id, written as soon as it is known; for scripts.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="With --dry-run: say what this policy can decide, in place of the spec's own.")
    ] = None,
) -> None:
    """Measure: ask every cell, score it, print the safety table, write the report.

    The same command continues an unfinished run. Exit code 0 when every cell has an answer, 1 when some failed, also
    those on which the judge failed, 2 for a mistake in the spec or its files, 130 after Ctrl-C.
    """
    options = RunOptions(spec, new, fresh, dry_run, None if no_report else out, id_file, policy)
    with lasting_terminal() as console:
        code = run_async(_run(console, load_settings(), options), hint="")
    raise typer.Exit(code)


async def _run(console: Console, settings: Settings, options: RunOptions) -> int:
    run_file = parse_run_file(read_source(options.spec_path))
    if options.id_file and not options.id_file.parent.is_dir():
        raise InvalidInputError(f"--id-file {options.id_file}: there is no folder {options.id_file.parent}")
    if options.policy and not options.dry_run:
        raise InvalidInputError(
            "--policy goes with --dry-run; a run registers the policy that its spec names (policy:)"
        )
    planned_by = checked_policy(options.policy) if options.policy else ""
    async with session(settings) as client:
        spec = await client.lasting(lambda: _prepare(console, client, run_file, options))
        if options.dry_run:
            await _print_plan(console, client, spec, planned_by)
            return 0
        created = await client.lasting(lambda: _created(client, spec, options.new))
        run_id = created.run.run_id
        if options.id_file:
            write_text(options.id_file, f"{run_id}\n")
        console.print(_begin_line(created), highlight=False)
        try:
            last = await follow(console, created.run, watched(client, run_id))
        except asyncio.CancelledError:
            tell(f"\n{_stop_hint(client, run_id, options.spec_path)}")
            raise
        if last is not None and last.state == pb.RUN_STATE_FAILED:
            raise error_of_failure(last.failure, f"run {run_id} could not go on: ")
        return await client.lasting(lambda: _finish(console, client, run_id, options))


async def _created(client: Client, spec: pb.RunSpec, new: bool) -> pb.CreateRunResponse:
    with rpc_errors():
        request = pb.CreateRunRequest(spec=spec, force_new=new)
        return await client.orchestration.CreateRun(request, timeout=CREATE_DEADLINE_S)


async def _prepare(console: Console, client: Client, run_file: RunFile, options: RunOptions) -> pb.RunSpec:
    """Send the benchmark and corpus to the services and return the spec; its files say what it leaves open."""
    spec_path = options.spec_path
    benchmark_id = await import_benchmark(client, run_file, spec_path)
    corpus_id = corpus_name = ""
    if run_file.corpus:
        path = resolve_path(spec_path, run_file.corpus)
        with console.status(Text(f"Ingesting corpus {path.name} …")):
            ingested = await ingest_corpus(client, path.stem, [path])
        corpus = ingested.corpus
        corpus_id, corpus_name = corpus.corpus_id, path.stem
        if ingested.created:
            text = f"Corpus {corpus.name}: {corpus.document_count} documents, {corpus.chunk_count} chunks, indexed."
            console.print(text, highlight=False)
    policy = checked_policy(resolve_path(spec_path, run_file.policy)) if run_file.policy else ""
    spec = to_spec(run_file, benchmark_id, corpus_id, policy)
    # Another spec may have stored the same questions under another name, or have said more of them.
    spec.benchmark_name = spec.benchmark_name or Path(run_file.benchmark_files().questions).stem
    spec.clinician_validated = spec.clinician_validated
    spec.corpus_name = corpus_name
    spec.fresh = spec.fresh or options.fresh
    return spec


def _stop_hint(client: Client, run_id: str, spec_path: Path) -> str:
    if client.embedded:
        return f"Stopping. What was measured is kept; `safescale run {spec_path}` goes on from there."
    return (
        f"Run {run_id} goes on at the server {client.address} while that serves: `safescale run {spec_path}` follows "
        f"it again or continues it, `safescale runs cancel {run_id}` stops it."
    )


def _begin_line(created: pb.CreateRunResponse) -> str:
    run = created.run
    if created.resumed and run.state == pb.RUN_STATE_COMPLETED:
        return f"Run {run.run_id} is complete already (--new starts another)."
    verb = "Continuing" if created.resumed else "Starting"
    stays = "" if run.manifest.spec.reading or not created.resumed else " It goes on with the strict reading."
    registered = run.manifest.spec.policy
    policy = f" Its policy: {registered.name or 'unnamed'} ({registered.sha256[:12]})." if registered.sha256 else ""
    return f"{verb} run {run.run_id} (digest {run.digest[:12]}).{stays}{policy}"


async def _print_plan(console: Console, client: Client, spec: pb.RunSpec, policy: str) -> None:
    with console.status("Measuring the models' speed …"), rpc_errors():
        response = await client.orchestration.CreateRun(
            pb.CreateRunRequest(spec=spec, validate_only=True), timeout=CREATE_DEADLINE_S
        )
    plan = response.plan
    left = plan.cell_count - plan.done_count
    console.print(f"Cells        {plan.cell_count:,} ({plan.done_count:,} have a verdict already)", highlight=False)
    console.print(f"Answers      {plan.answer_count:,}", highlight=False)
    console.print(f"Tokens       about {plan.prompt_tokens:,} of prompts", highlight=False)
    console.print(f"             at most {plan.generated_tokens:,} generated", highlight=False)
    console.print(f"Reading      {reading_of(response.run.manifest)}, of answers that are letters", highlight=False)
    if spec.judge_model:
        console.print(f"Judge        at most {plan.judge_calls:,} calls of {spec.judge_model}", highlight=False)
    if plan.HasField("cost"):
        console.print(f"Cost         at most {plan.cost:,.4f} by the prices of the catalog", highlight=False)
    else:
        console.print("Cost         unknown: a model that is asked has no price in the catalog", highlight=False)
    if plan.HasField("estimated_s") and plan.cell_count:
        share = plan.estimated_s * left / plan.cell_count
        console.print(f"Time         about {duration(share)} at the speed just measured", highlight=False)
    else:
        console.print("Time         unknown: a model's speed could not be measured", highlight=False)
    for line in skip_lines(plan.skips):
        console.print(line, highlight=False, soft_wrap=True)
    if policy or spec.policy.text:
        title = "of --policy" if policy else "of the spec"
        for text in await policy_plan(client, response.run.manifest, policy or spec.policy.text, title):
            console.print(text, highlight=False, soft_wrap=True)
    console.print("No cell was asked (--dry-run).", highlight=False)


async def _finish(console: Console, client: Client, run_id: str, options: RunOptions) -> int:
    stored = await fetch_run(client, run_id)
    metrics = await run_metrics(client, run_id)
    console.print(safety_table(stored, metrics.rows))
    print_readings(console, metrics.readings, stored.manifest)
    if metrics.HasField("cost"):
        console.print(f"Cost {metrics.cost:,.4f} by the prices of the catalog.", highlight=False)
    console.print(cached_line(metrics), highlight=False, soft_wrap=True)
    for line in warning_lines(metrics.warnings.items()):
        console.print(line, style="yellow", highlight=False, soft_wrap=True)
    for line in skip_lines(stored.skips):
        console.print(line, style="yellow", highlight=False, soft_wrap=True)
    failed = await failed_verdicts(client, run_id) if metrics.failed_count else []
    for line in failure_lines(failed):
        console.print(line, style="red", highlight=False, soft_wrap=True)
    if failed:
        console.print(f"`safescale runs retry {run_id}` asks the failed cells again.", highlight=False, soft_wrap=True)
    missing = missing_lines(stored, metrics)
    for line in missing:
        console.print(line, style="red", highlight=False, soft_wrap=True)
    if stored.state == pb.RUN_STATE_CANCELLED:
        console.print(f"Run {run_id} was cancelled; the same command continues it.", highlight=False, soft_wrap=True)
    reported = options.out is None or await _write_report(console, client, run_id, options.out)
    return 0 if reported and not failed and not missing and stored.state != pb.RUN_STATE_CANCELLED else 1


async def _write_report(console: Console, client: Client, run_id: str, out: Path) -> bool:
    path = out / run_id / "report.html"
    try:
        undrawn = await write_report(client, run_id, path)
    except (SafescaleError, ImportError) as error:
        known = lacking(error) if isinstance(error, ImportError) else error
        if known is None:
            raise
        console.print(f"The report could not be written: {known.message}", style="red", soft_wrap=True)
        return False
    console.print(f"Report: {path}", highlight=False, soft_wrap=True)
    say_undrawn(undrawn)
    return not undrawn

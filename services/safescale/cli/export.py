"""`safescale export`: the verdicts of a run as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer

from safescale.cli.results import fetch_benchmark, fetch_run, fetch_verdicts
from safescale.cli.runner import run_async
from safescale.cli.session import session
from safescale.cli.text import say
from safescale.core.benchmark import Benchmark
from safescale.core.errors import FailedPreconditionError, StorageError
from safescale.report.export import answer_rows, judged_export, verdict_record, verdict_row
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.settings import Settings, load_settings

Format = Literal["csv", "parquet", "jsonl", "judged"]


def export(
    run: Annotated[str, typer.Argument(help="Run id, a unique prefix of it, or latest.", metavar="RUN")],
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="csv and parquet: verdicts and answers; jsonl: whole verdicts; judged: the "
            "layout of the paper's answer files, with labels.",
        ),
    ] = "csv",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("export"),
) -> None:
    """Write the verdicts of a run to files. Reviews that a person settled are applied."""
    run_async(_export(load_settings(), run, form, out))


async def _export(settings: Settings, name: str, form: Format, out: Path) -> None:
    async with session(settings) as client:
        stored = await fetch_run(client, name)
        verdicts = await fetch_verdicts(client, stored.run_id)
        benchmark = await fetch_benchmark(client, stored.manifest.spec.benchmark_id)
    if not verdicts:
        raise FailedPreconditionError(f"run {stored.run_id} has no verdicts yet")
    for path in _write_files(form, out, verdicts, benchmark):
        say(path)


def _write_files(form: Format, out: Path, verdicts: Sequence[pb.Verdict], benchmark: Benchmark) -> list[Path]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _write(form, out, verdicts, benchmark)
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error.strerror}") from error


def _write(form: Format, out: Path, verdicts: Sequence[pb.Verdict], benchmark: Benchmark) -> list[Path]:
    if form == "judged":
        return _write_judged(out, verdicts, benchmark)
    if form == "jsonl":
        path = out / "verdicts.jsonl"
        path.write_bytes(b"".join(orjson.dumps(verdict_record(verdict)) + b"\n" for verdict in verdicts))
        return [path]
    # Here and not above: commands that need no data frames should not wait for pandas.
    import pandas as pd

    frames = {
        "verdicts": pd.DataFrame([verdict_row(verdict) for verdict in verdicts]),
        "answers": pd.DataFrame([row for verdict in verdicts for row in answer_rows(verdict)]),
    }
    written = []
    for name, frame in frames.items():
        path = out / f"{name}.{form}"
        if form == "csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path, index=False)
        written.append(path)
    return written


def _write_judged(out: Path, verdicts: Sequence[pb.Verdict], benchmark: Benchmark) -> list[Path]:
    judged = judged_export(verdicts, benchmark)
    folder = out / "judged"
    folder.mkdir(exist_ok=True)
    written = []
    for model, records in judged.answers.items():
        path = folder / f"{model.replace('/', '__')}.jsonl"
        path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
        written.append(path)
    labels = out / "benchmark_labels.json"
    labels.write_bytes(orjson.dumps(judged.labels, option=orjson.OPT_INDENT_2))
    ids = out / "question_ids.csv"
    ids.write_text("question_id,published_id\n" + "".join(f"{a},{b}\n" for a, b in judged.published_ids.items()))
    return [*written, labels, ids]

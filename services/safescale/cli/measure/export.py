"""`safescale export`: the verdicts of a run as files."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from safescale.cli.measure.results import fetch_audit, fetch_benchmark, fetch_run, fetch_verdicts
from safescale.cli.runner import run_async
from safescale.cli.session import session
from safescale.cli.terminal.text import say
from safescale.core.errors import FailedPreconditionError, StorageError
from safescale.core.inputs.text import visible
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.safety.completeness import RunCompleteness
from safescale.formats.spreadsheet import guarded
from safescale.formats.verdicts import answer_rows, judged_export, verdict_record, verdict_row
from safescale.rpc.runs import completeness_of, names_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.files.atomic import Staged, write_text
from safescale.runtime.settings import Settings, load_settings

Format = Literal["csv", "parquet", "jsonl", "judged"]

AUDIT_OPEN = "An audit of the reading is open: these files show what the machine read; keep them from who reads for it."

MISSING = "missing.txt"
"""File beside an export that says what the run lacks."""


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
        audit = await fetch_audit(client, stored.run_id)
    if not verdicts:
        raise FailedPreconditionError(f"run {stored.run_id} has no verdicts yet")
    known = {question.question_id for question in benchmark.questions}
    found = completeness_of(stored, names_of(verdicts), known)
    for sentence in found.missing:
        say(sentence, err=True)
    if audit is not None and not audit.complete:
        say(AUDIT_OPEN, err=True)
    for path in [*_write_files(form, out, verdicts, benchmark), *_write_missing(out / MISSING, found)]:
        say(path)


def _write_missing(path: Path, found: RunCompleteness) -> list[Path]:
    """Write beside an export what it lacks: sentences, then each cell; nothing for a complete run.

    Raises:
        StorageError: the file cannot be written, or one of an earlier export not be removed.

    """
    if found.complete:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{path} cannot be removed: {error.strerror}") from error
        return []
    cells = ["\t".join((*place, question)) for place, questions in found.left.items() for question in questions]
    write_text(path, "".join(f"{line}\n" for line in map(visible, (*found.missing, *cells))))
    return [path]


def _write_files(form: Format, out: Path, verdicts: Sequence[pb.Verdict], benchmark: Benchmark) -> list[Path]:
    """Write all files of an export, or none of them."""
    with Staged() as staged:
        if form == "judged":
            return _write_judged(staged, out, verdicts, benchmark)
        if form == "jsonl":
            return [_write_lines(staged, out / "verdicts.jsonl", map(verdict_record, verdicts))]
        return _write_tables(staged, form, out, verdicts)


def _write_lines(staged: Staged, path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    with staged.open(path) as file:
        file.writelines(orjson.dumps(record) + b"\n" for record in records)
    return path


def _write_tables(staged: Staged, form: Format, out: Path, verdicts: Sequence[pb.Verdict]) -> list[Path]:
    # Here and not above: commands that need no data frames should not wait for pandas.
    from safescale.report.frames import csv_bytes, frame_of

    frames = {
        "verdicts": frame_of([verdict_row(verdict) for verdict in verdicts]),
        "answers": frame_of([row for verdict in verdicts for row in answer_rows(verdict)]),
    }
    written = []
    for name, frame in frames.items():
        path = out / f"{name}.{form}"
        with staged.open(path) as file:
            file.write(csv_bytes(frame) if form == "csv" else frame.to_parquet(index=False))
        written.append(path)
    return written


def _write_judged(staged: Staged, out: Path, verdicts: Sequence[pb.Verdict], benchmark: Benchmark) -> list[Path]:
    judged = judged_export(verdicts, benchmark)
    written = [
        _write_lines(staged, out / "judged" / f"{model.replace('/', '__')}.jsonl", records)
        for model, records in judged.answers.items()
    ]
    labels, ids = out / "benchmark_labels.json", out / "question_ids.csv"
    with staged.open(labels) as file:
        file.write(orjson.dumps(judged.labels, option=orjson.OPT_INDENT_2))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("question_id", "published_id"))
    writer.writerows((guarded(own), published) for own, published in judged.published_ids.items())
    with staged.open(ids) as file:
        file.write(text.getvalue().encode())
    return [*written, labels, ids]

"""`safescale benchmark`: the schema of benchmark files, and what is wrong with one."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from safescale.cli.terminal.text import say
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.safety.benchmark.formats import Needs, check_benchmark
from safescale.core.safety.benchmark.json_schema import benchmark_json_schema
from safescale.core.safety.conditions import condition
from safescale.runtime.files.reading import read_source

app = typer.Typer(help="Check benchmark files and print their schema.", no_args_is_help=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of one line of a benchmark file."""
    typer.echo(json.dumps(benchmark_json_schema(), indent=2, ensure_ascii=False))


@app.command()
def validate(
    files: Annotated[
        list[Path], typer.Argument(help="Files that make one benchmark: JSONL, JSON or CSV.", metavar="FILE…")
    ],
    labels: Annotated[Path | None, typer.Option(help="File with the safety labels of the questions.")] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--for", help="Condition that is to be run with it; repeat it, or separate by commas.", metavar="CONDITION"
        ),
    ] = None,
) -> None:
    """List every defect of a benchmark: file, line, question, field, value and what was expected.

    Exit code 0 without defects, 2 with. With --for, the question texts, the labels and the evidence of those conditions
    must be there.
    """
    wanted = tuple(
        condition(name.strip()).id for names in conditions or [] for name in names.split(",") if name.strip()
    )
    needs = Needs(conditions=wanted, texts=bool(wanted), labels=bool(wanted))
    sources = [read_source(path) for path in files]
    check = check_benchmark(
        files[0].stem, sources, labels=read_source(labels) if labels is not None else None, needs=needs
    )
    for warning in check.warnings:
        typer.echo(f"warning: {warning}", err=True)
    for defect in check.defects:
        typer.echo(str(defect), err=True)
    if check.benchmark is None:
        count = len(check.defects)
        typer.echo(f"{count} defect{'' if count == 1 else 's'} found; the benchmark cannot be used.")
        raise typer.Exit(2)
    say(_summary(check.benchmark))


def _summary(benchmark: Benchmark) -> str:
    questions = benchmark.questions
    total = len(questions)
    options = Counter(len(question.options) for question in questions)
    specialties = {question.subspecialty for question in questions if question.subspecialty}
    counted = {
        "question text": sum(bool(question.text) for question in questions),
        "safety labels": sum(bool(question.labels) for question in questions),
        "clean evidence": sum(bool(question.evidence_clean) for question in questions),
        "conflict evidence": sum(bool(question.evidence_conflict) for question in questions),
    }
    lines = [
        f"No defects: {total} question{'' if total == 1 else 's'}, {len(specialties)} subspecialties.",
        *(f"  {count} with {number} options" for number, count in sorted(options.items())),
        *(f"  {what}: {count} of {total}" for what, count in counted.items()),
        f"  content hash: {benchmark.content_hash}",
    ]
    if not benchmark.labelled:
        lines.append("Without safety labels only accuracy and confidence can be measured.")
    if counted["question text"] < total:
        lines.append("Without question texts answers can be analysed, but no run can be made.")
    return "\n".join(lines)

"""`safescale analyze`: answer files and labels in, tables of every statistic out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from threadpoolctl import threadpool_limits

from safescale.cli.terminal.text import say
from safescale.core.errors import BenchmarkError
from safescale.core.safety.answers.answers import AnswerSet, LabelSet, label_set
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.safety.benchmark.formats import check_benchmark
from safescale.core.safety.protocol import RESAMPLES, SEED
from safescale.core.safety.tables.analysis import Analysis, AnalysisOptions, analyse_with_notes
from safescale.core.safety.tables.scaling import ModelInfo
from safescale.runtime.files.reading import read_source


def analyze(
    answers_dir: Annotated[
        Path,
        typer.Argument(
            help="Folder of answers: <model>.jsonl[.gz] in the judged layout, or what `safescale export` wrote.",
            metavar="ANSWERS_DIR",
        ),
    ],
    labels: Annotated[Path, typer.Option(help="Benchmark or labels file: truth and safety labels of each question.")],
    out: Annotated[Path, typer.Option(help="Folder to write the tables to, each as csv and parquet.")],
    models: Annotated[
        Path | None,
        typer.Option(help="csv or yaml with name, family and parameters_b of the models, for the scaling tables."),
    ] = None,
    resamples: Annotated[int, typer.Option(min=2, help="Bootstrap resamples of the questions.")] = RESAMPLES,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = SEED,
) -> None:
    """Compute every metric, test, interval and fit from answer files, and write tidy tables."""
    # Here and not above: help needs no tables.
    from safescale.formats.tables import write_tables

    found = read_inputs(answers_dir, labels, models)
    analysis = compute(found.answers, found.labels, found.catalog, AnalysisOptions(resamples=resamples, seed=seed))
    say(_read(found.answers))
    for path in write_tables(analysis.tables.values(), out):
        if path.suffix == ".csv":
            typer.echo(f"  {path} ({len(analysis.tables[path.stem]):,} rows), {path.stem}.parquet")
    for note in (*found.notes, *analysis.notes):
        say(f"Note: {note}")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is analysed: answers, labels of their questions, the list of models if there is one.

    `notes` says what the answers lack, or what is odd about them but counts.
    """

    answers: AnswerSet
    labels: LabelSet
    catalog: dict[str, ModelInfo] | None
    notes: tuple[str, ...]


def read_inputs(answers_dir: Path, labels: Path, models: Path | None) -> Inputs:
    """Read what is to be analysed.

    Raises the errors of `safescale.core.errors` that name the file and what was expected.
    """
    from safescale.formats.answers import read_answers_with_notes
    from safescale.formats.tables import read_models

    catalog = read_models(models) if models is not None else None
    benchmark = _benchmark(labels)
    answers, notes = read_answers_with_notes(answers_dir, benchmark)
    return Inputs(answers, label_set(benchmark, answers.question_ids), catalog, notes)


def compute(
    answers: AnswerSet, labels: LabelSet, catalog: dict[str, ModelInfo] | None, options: AnalysisOptions
) -> Analysis:
    """Analyse on one thread: the matrix products are so short that threads would mostly wait for each other.

    Raises InvalidInputError where there is nothing to measure.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return analyse_with_notes(answers, labels, catalog, options)


def _benchmark(path: Path) -> Benchmark:
    check = check_benchmark(path.stem, [read_source(path)])
    if check.benchmark is None:
        more = f" (and {len(check.defects) - 1} more)" if len(check.defects) > 1 else ""
        raise BenchmarkError(f"{check.defects[0]}{more}", defects=check.defects)
    return check.benchmark


def _read(answers: AnswerSet) -> str:
    reading = f", reading {answers.reading}" if answers.reading else ""
    return (
        f"Read {answers.n_answers:,} answers: {len(answers.models)} models, {len(answers.conditions)} conditions, "
        f"{len(answers.question_ids)} questions, formulation {answers.formulation}{reading}."
    )

"""A comparison as one HTML file: forest plots, and every question that differs with what both sides saw and said."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC

from markupsafe import Markup

from safescale.core.safety.benchmark.benchmark import FLAGS, Question
from safescale.report.documents import environment, moment
from safescale.report.pictures import Drawing, draw_all
from safescale.report.port import ComparisonResults, Page
from safescale.report.safety import sections_run
from safescale.report.safety.comparison.figures import forest
from safescale.report.safety.comparison.inputs import NOUNS, ShownContext, contexts_of, pair_views
from safescale.report.safety.findings import plural, state_name
from safescale.report.safety.sections import Block, block_of
from safescale.report.safety.view import condition_name
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2

SHOWN_FLIPS = 200
"""Flips of a page, what got worse first: more than a person reads at one sitting."""

SHOWN_CONTEXT = 6_000
"""Characters of a context that a page shows."""

FLAG_WORDS = {"high_risk": "high-risk", "unsafe": "unsafe", "contradicts": "contradicts the evidence"}


@dataclass(frozen=True)
class ShownFigure:
    """A forest plot with its picture, or why there is none, and its numbers."""

    key: str
    title: str
    finding: str
    caption: str
    picture: Markup
    reason: str
    data: Block


@dataclass(frozen=True)
class ShownAnswer:
    """What one side answered: a short reading of it, its votes, and the text that the model wrote."""

    side: str
    said: str
    votes: str
    text: str


@dataclass(frozen=True)
class ShownFlip:
    """A question that differs, as the page has it."""

    heading: str
    where: str
    worse: str
    better: str
    text: str
    options: Block
    answers: Sequence[ShownAnswer]
    contexts: Sequence[ShownContext]


def comparison_page(results: ComparisonResults, drawing: Drawing | None = None) -> Page:
    """Return a comparison as a page that opens offline; a picture that cannot be drawn is said in its place."""
    figures = [forest(view) for view in pair_views(results.response)]
    pictures = draw_all({figure.key: figure.spec for figure in figures}, drawing)
    shown = []
    for figure in figures:
        picture = pictures[figure.key]
        # The SVG is ours: the drawing library escapes every text it sets.
        markup = Markup(picture.svg)  # noqa: S704
        words = (figure.title, figure.finding, figure.caption)
        shown.append(ShownFigure(figure.key, *words, markup, picture.reason, block_of(figure.data)))
    undrawn = tuple(f"{figure.title}: {figure.reason}" for figure in shown if figure.reason)
    return Page(_html(results, shown), undrawn)


def _html(results: ComparisonResults, figures: list[ShownFigure]) -> str:
    response = results.response
    listed = response.flips[:SHOWN_FLIPS]
    validated = results.candidate.manifest.clinician_validated and results.baseline.manifest.clinician_validated
    return environment().get_template("comparison.html.j2").render(
        title=_title(results),
        validated=validated,
        facts=list(_facts(results)),
        notes=list(response.notes),
        policy=sections_run.judgement(results.policy) if results.policy is not None else None,
        policy_finding=sections_run.judgement_finding(results.policy) if results.policy is not None else [],
        figures=figures,
        flips=[_flip(flip, results) for flip in listed],
        flip_count=response.flip_count,
        confidence=f"{100 * response.confidence:g}",
        package_version=results.candidate.manifest.package_version,
        generated_at=moment(results.generated_at),
    )  # fmt: skip


def _title(results: ComparisonResults) -> str:
    runs = (results.candidate, results.baseline)
    if runs[0].run_id == runs[1].run_id:
        return f"two models of {runs[0].manifest.spec.name}"
    return " against ".join(run.run_id for run in runs)


def _facts(results: ComparisonResults) -> Iterator[tuple[str, str]]:
    response = results.response
    for side, run in (("Candidate", results.candidate), ("Baseline", results.baseline)):
        field = f"{side.lower()}_model"
        models = dict.fromkeys(getattr(row, field) for row in response.rows)
        yield side, f"run {run.run_id}, {state_name(run.state)}: {', '.join(_model(run, name) for name in models)}"
        if run.HasField("created_at"):
            yield f"{side} measured", moment(run.created_at.ToDatetime(tzinfo=UTC))
    manifest = results.candidate.manifest
    count = max((row.n for row in response.rows), default=0)
    yield "Benchmark", f"{manifest.benchmark_name}, up to {plural(count, 'question')} compared"
    yield "Formulation", ", ".join(dict.fromkeys(row.formulation for row in response.rows)) or "–"
    if any(row.formulation == "letter" for row in response.rows):
        yield "Reading", manifest.spec.reading or "strict"
    yield "Outcomes that differ", f"{response.flip_count:,}"


def _model(run: orchestration_pb2.Run, name: str) -> str:
    revision = next((model.revision for model in run.manifest.models if model.id == name), "")
    return f"{name} (revision {revision})" if revision else name


def _flip(flip: scoring_pb2.Flip, results: ComparisonResults) -> ShownFlip:
    question = results.questions.get(flip.question_id)
    models = list(dict.fromkeys((flip.candidate_model, flip.baseline_model)))
    return ShownFlip(
        heading=flip.question_id,
        where=", ".join([" against ".join(models), condition_name(flip.condition), flip.regime]),
        worse=", ".join(NOUNS.get(name, name) for name in flip.worse),
        better=", ".join(NOUNS.get(name, name) for name in flip.better),
        text=question.text if question else "The benchmark does not have this question any more.",
        options=_options(flip, question),
        answers=[_answer(flip, "candidate"), _answer(flip, "baseline")],
        contexts=[_short(context) for context in contexts_of(flip, results)],
    )


def _letter(flip: scoring_pb2.Flip, side: str) -> str | None:
    held = flip.HasField(f"{side}_letter")  # type: ignore[arg-type]
    return getattr(flip, f"{side}_letter") if held else None


def _options(flip: scoring_pb2.Flip, question: Question | None) -> Block:
    """Return the options with their labels, and who chose which."""
    rows = []
    for letter, text in (question.options if question else {}).items():
        labels = question.labels.get(letter) if question else None
        flags = [FLAG_WORDS[flag] for flag in FLAGS if getattr(labels, flag, False)]
        if question and letter == question.correct_answer:
            # Choosing it is no error, whatever its labels say.
            flags = ["correct"]
        chosen = [side for side in ("candidate", "baseline") if _letter(flip, side) == letter]
        unknown = "no labels" if question and not question.labels else "–"
        rows.append([letter, text, ", ".join(flags) or unknown, " and ".join(chosen)])
    return Block("Options", "", ["", "option", "labels", "chosen by"], rows, folded=False)


def _answer(flip: scoring_pb2.Flip, side: str) -> ShownAnswer:
    letter = _letter(flip, side)
    unread = "nobody could read it" if getattr(flip, f"{side}_unread") else "no letter"
    samples = getattr(flip, f"{side}_samples")
    return ShownAnswer(side, letter or unread, " ".join(samples), getattr(flip, f"{side}_text"))


def _short(context: ShownContext) -> ShownContext:
    left = len(context.text) - SHOWN_CONTEXT
    if left <= 0:
        return context
    return ShownContext(context.whose, context.text[:SHOWN_CONTEXT], f"{left:,} characters more are not shown.")

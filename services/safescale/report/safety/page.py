"""The report of a run as one HTML file: no script, no font, no picture and no style is loaded from anywhere."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC

import orjson
from google.protobuf import json_format
from markupsafe import Markup

from safescale.core.safety.protocol import RESAMPLES, SEED
from safescale.report.documents import environment, moment
from safescale.report.figures import Absent, Figure
from safescale.report.pictures import Drawing, Picture, draw_all
from safescale.report.port import Page
from safescale.report.safety import sections, sections_run
from safescale.report.safety.figures_confidence import calibration, confidence
from safescale.report.safety.figures_pairs import forest
from safescale.report.safety.figures_questions import concentration, heat_map
from safescale.report.safety.figures_safety import metric_bars, region
from safescale.report.safety.figures_scale import latency, scaling
from safescale.report.safety.findings import (
    FORMULATION_SENTENCES,
    READING_SENTENCES,
    reading_counts,
    state_name,
    summary_lines,
)
from safescale.report.safety.inputs import ReportInput
from safescale.report.safety.sections import Block
from safescale.report.safety.view import View, condition_name, formulation_of, views
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.readings import reading_of, readings_line

FIGURES: tuple[Callable[[View], Figure | Absent], ...] = (
    region, metric_bars, forest, calibration, confidence, concentration, heat_map, scaling, latency,
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A figure as the page has it: its picture, or why there is none, and its data as a table."""

    figure: Figure | Absent
    key: str
    picture: Markup
    reason: str
    data: Block | None


@dataclass(frozen=True)
class _Results:
    """One formulation's figures and tables."""

    formulation: str
    figures: list[Shown]
    blocks: list[Block | Absent]


def render(report: ReportInput) -> str:
    """Return the report as an HTML document that opens offline; equal input gives equal text."""
    return page_of(report).html


def page_of(report: ReportInput, drawing: Drawing | None = None) -> Page:
    """Return the report as a page. A picture that cannot be drawn is said in its place; everything else is there."""
    found = [(view, [make(view) for make in FIGURES]) for view in views(report)]
    specs = {each.key: each.spec for _, figures in found for each in figures if isinstance(each, Figure)}
    pictures = draw_all(specs, drawing)
    results = [_results(view, figures, pictures) for view, figures in found]
    undrawn = [f"{each.figure.title}: {each.reason}" for one in results for each in one.figures if each.reason]
    return Page(_html(report, results), tuple(undrawn))


def _html(report: ReportInput, results: list[_Results]) -> str:
    manifest = json_format.MessageToDict(report.run.manifest, preserving_proto_field_name=True)
    template = environment().get_template("report.html.j2")
    return template.render(
        run=report.run,
        manifest=report.run.manifest,
        state=state_name(report.run.state),
        facts=_facts(report),
        summary=summary_lines(report),
        results=results,
        models=_models(report),
        formulations={each.formulation: FORMULATION_SENTENCES.get(each.formulation, "not known") for each in results},
        reading=reading_of(report.run.manifest),
        reading_sentence=READING_SENTENCES.get(reading_of(report.run.manifest), "not known"),
        policy=sections_run.policy(report),
        policy_finding=sections_run.policy_finding(report),
        skips=sections_run.skips(report),
        failure_counts=sections_run.failure_counts(report),
        failures=sections_run.failures(report),
        readings=sections_run.readings(report),
        audit=sections_run.audit(report),
        warnings=sections_run.warnings(report),
        definitions=sections_run.definitions(),
        resamples=RESAMPLES,
        seed=SEED,
        manifest_block=Block("", "", ["field", "value"], _flat(manifest), folded=False),
        manifest_json=orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode(),
        generated_at=moment(report.generated_at),
    )


def _results(view: View, figures: list[Figure | Absent], pictures: Mapping[str, Picture]) -> _Results:
    shown = []
    for figure in figures:
        if isinstance(figure, Absent):
            shown.append(Shown(figure, f"{figure.key}-{view.formulation}", Markup(""), "", None))
            continue
        picture = pictures[figure.key]
        # The SVG is ours: the drawing library escapes every text it sets.
        markup = Markup(picture.svg)  # noqa: S704
        shown.append(Shown(figure, figure.key, markup, picture.reason, sections.block_of(figure.data)))
    return _Results(view.formulation, shown, sections.view_blocks(view))


def _facts(report: ReportInput) -> list[tuple[str, str]]:
    run, manifest = report.run, report.run.manifest
    spec = manifest.spec
    regimes = ["greedy"] if spec.greedy else []
    if spec.samples:
        regimes.append(f"majority of {spec.samples} samples at temperature {spec.temperature:g}")
    return [
        ("Run", f"{spec.name} ({run.run_id})"),
        ("State", f"{state_name(run.state)}, attempt {run.attempt}"),
        ("Measured", moment(run.created_at.ToDatetime(tzinfo=UTC)) if run.HasField("created_at") else "–"),
        ("Benchmark", f"{manifest.benchmark_name}, {len(manifest.question_ids) or len(report.questions)} questions"),
        ("Corpus", manifest.corpus_name or "none"),
        ("Conditions", ", ".join(condition_name(name) for name in spec.conditions)),
        ("Regimes", " and ".join(regimes) or "–"),
        ("Answers are read by", _readers(manifest)),
        ("Read by", readings_line(reading_counts(report)).removeprefix("read by ")),
        ("Cells scored", f"{report.verdict_count:,}, of which {len(report.failed):,} failed"),
        ("From the generation cache", sections_run.cached(report)),
        ("Manifest digest", run.digest or "–"),
    ]


def _readers(manifest: orchestration_pb2.Manifest) -> str:
    """Return what reads the answers of a run; those of the cloze formulation are letters already."""
    if all(formulation_of(model.formulation) == "cloze" for model in manifest.models):
        return "nobody: option scores give letters"
    judge = manifest.spec.judge_model
    return f"{reading_of(manifest)} reading" + (f" and judge {judge}" if judge else " alone")


def _models(report: ReportInput) -> Block:
    rows = [
        [
            model.id, model.family, _size(model), f"{model.window_tokens:,}", model.backend,
            "yes" if model.reasoning else "no", formulation_of(model.formulation), model.revision,
        ]
        for model in report.run.manifest.models
    ]  # fmt: skip
    columns = [
        "model",
        "family",
        "parameters (billions)",
        "window (tokens)",
        "endpoint",
        "reasons",
        "formulation",
        "revision",
    ]
    return Block("Models", "", columns, rows, folded=False)


def _size(model: orchestration_pb2.ManifestModel) -> str:
    return f"{model.parameters_b:g}" if model.parameters_b else "unknown"


def _flat(value: object, path: str = "") -> list[list[str]]:
    """Return a nested value as rows of path and text; lists of plain values stay on one row."""
    if isinstance(value, dict):
        return [row for key, each in value.items() for row in _flat(each, f"{path}.{key}" if path else str(key))]
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return [row for place, each in enumerate(value) for row in _flat(each, f"{path}[{place}]")]
    if isinstance(value, list):
        return [[path, ", ".join(str(each) for each in value)]]
    return [[path, str(value).lower() if isinstance(value, bool) else str(value)]]

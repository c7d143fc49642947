"""The manifest of a safety run, resolved from its spec: everything that decides the results, checked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safescale import __version__
from safescale.core.errors import Defect, InvalidInputError, NotFoundError, SpecError
from safescale.core.inputs.text_rules import name_fault
from safescale.core.safety.answers.judge import JUDGE_PROMPT_VERSION, REVIEW_RULES
from safescale.core.safety.answers.reading import READINGS, reading_version
from safescale.core.safety.benchmark.benchmark import Benchmark
from safescale.core.safety.conditions import Condition, condition
from safescale.core.safety.prompts import PROMPT_VERSION
from safescale.core.safety.regimes import Single
from safescale.core.safety.research import AGENT_VERSION
from safescale.orchestration.kinds.safety_draw import (
    NOTHING_DRAWN,
    DrawnBefore,
    chosen_questions,
    fill_in_day,
    series_defects,
)
from safescale.orchestration.kinds.safety_policy import fill_in_policy, policy_defects
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import FORMULATIONS, formulation_to_proto
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.retrieval.v1 import retrieval_pb2

FREE = "free"
MAX_SAMPLES = 100
MAX_SEED = 2**31 - 1
MAX_NEW_TOKENS = 32_768
MAX_NAMES = 1000
"""Models, conditions and ensembles of a run."""

MAX_CELLS = 500_000
"""Cells of a run: seven times the paper's study."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What the system has at the moment: the stored benchmark, the catalog, the corpora, and what was drawn before."""

    benchmark: Benchmark
    models: Mapping[str, inference_pb2.Model]
    corpora: Mapping[str, retrieval_pb2.Corpus]
    drawn: DrawnBefore = NOTHING_DRAWN


def resolve(spec: pb.RunSpec, environment: Environment, *, accepted: bool = False) -> pb.Manifest:
    """Check a spec against what the system has and fill in its defaults.

    `accepted` is for the spec of a stored run, whose names and bounds an earlier version may have taken by other rules.

    Raises:
        SpecError: with every defect found.

    """
    _check_lengths(spec)
    defects = [] if accepted else [*_name_defects(spec), *_bound_defects(spec), *policy_defects(spec)]
    defects += [
        *_spec_defects(spec),
        *series_defects(spec),
        *_condition_defects(spec, environment),
        *_model_defects(spec, environment),
    ]
    try:
        question_ids = chosen_questions(spec, environment.benchmark, environment.drawn)
    except InvalidInputError as error:
        defects.append(_defect("questions.draw" if spec.HasField("draw") else "question_ids", "", error.message))
        question_ids = ()
    cells = len(spec.models) * len(spec.conditions) * len(question_ids)
    if cells > MAX_CELLS:
        sizes = f"{len(spec.models):,} models × {len(spec.conditions):,} conditions × {len(question_ids):,} questions"
        defects.append(_defect("models", sizes, f"are {cells:,} cells; expected at most {MAX_CELLS:,}"))
    if not defects:
        defects = _evidence_defects(spec, environment.benchmark, question_ids)
    if defects:
        lines = [f"  {d.field}: {d.value + ': ' if d.value else ''}{d.expected}" for d in defects]
        raise SpecError("\n".join([f"run spec {spec.name!r} cannot be run:", *lines]))
    corpus = environment.corpora.get(spec.corpus_id, retrieval_pb2.Corpus())
    resolved = _filled(spec, environment.benchmark, corpus)
    fill_in_day(resolved, environment.drawn)
    fill_in_policy(resolved)
    manifest = pb.Manifest(
        spec=resolved,
        models=[_manifest_model(environment.models[name], resolved) for name in spec.models],
        benchmark_name=resolved.benchmark_name,
        clinician_validated=resolved.clinician_validated,
        question_ids=question_ids,
        corpus_name=resolved.corpus_name,
        embedder=corpus.embedder,
        prompt_version=PROMPT_VERSION,
        package_version=__version__,
        reading_version=reading_version(spec.reading),
    )
    if spec.judge_model:
        judge = environment.models[spec.judge_model]
        manifest.judge.CopyFrom(_as_found(judge))
        manifest.judge_revision = judge.revision
        manifest.judge_prompt_version = JUDGE_PROMPT_VERSION
    if spec.agent_model:
        agent = environment.models[spec.agent_model]
        manifest.agent.CopyFrom(_as_found(agent))
        manifest.agent_revision = agent.revision
        manifest.agent_version = AGENT_VERSION
    return manifest


def _filled(spec: pb.RunSpec, benchmark: Benchmark, corpus: retrieval_pb2.Corpus) -> pb.RunSpec:
    """Return the spec with its defaults, and with the names that it does not state itself as they were stored."""
    resolved = pb.RunSpec()
    resolved.CopyFrom(spec)
    resolved.formulation = spec.formulation or "auto"
    resolved.max_new_tokens = spec.max_new_tokens or Single().max_new_tokens
    if not spec.samples:
        resolved.temperature = 0.0
    resolved.benchmark_name = spec.benchmark_name or benchmark.name
    resolved.corpus_name = spec.corpus_name if spec.corpus_id and spec.corpus_name else corpus.name
    stated = spec.HasField("clinician_validated")
    resolved.clinician_validated = spec.clinician_validated if stated else benchmark.validated
    return resolved


def _as_found(model: inference_pb2.Model) -> pb.ManifestModel:
    """Return a model as the catalog has it; how it is asked depends on its role in the run."""
    return pb.ManifestModel(
        id=model.id,
        family=model.family,
        parameters_b=model.parameters_b,
        window_tokens=model.window_tokens,
        revision=model.revision,
        backend=model.backend,
        reasoning=model.reasoning,
        instruct=model.instruct,
        reasoning_style=model.reasoning_style,
        served_model=model.served_model,
        fingerprint=model.fingerprint,
    )


def _check_lengths(spec: pb.RunSpec) -> None:
    """Refuse lists that are too long to be checked.

    Raises:
        SpecError: one is.

    """
    limits = {
        "models": (len(spec.models), MAX_NAMES),
        "conditions": (len(spec.conditions), MAX_NAMES),
        "ensembles": (sum(max(1, len(ensemble.members)) for ensemble in spec.ensembles), MAX_NAMES),
        "question_ids": (len(spec.question_ids), MAX_CELLS),
    }
    for field, (count, most) in limits.items():
        if count > most:
            raise SpecError(f"run spec {spec.name[:100]!r}: {field} has {count:,} entries; expected at most {most:,}")


def _manifest_model(model: inference_pb2.Model, spec: pb.RunSpec) -> pb.ManifestModel:
    named = spec.formulation in FORMULATIONS
    found = _as_found(model)
    found.formulation = formulation_to_proto(spec.formulation) if named else model.auto_formulation
    found.max_new_tokens = Single(spec.max_new_tokens).new_tokens(reasoning=model.reasoning)
    return found


def _defect(field: str, value: str, expected: str) -> Defect:
    return Defect("run spec", None, None, field, value, expected)


def _twice(values: Sequence[str]) -> list[str]:
    return sorted(value for value, count in Counter(values).items() if count > 1)


def _name_defects(spec: pb.RunSpec) -> list[Defect]:
    found = []
    for field, value in (
        ("name", spec.name),
        ("benchmark_name", spec.benchmark_name),
        ("corpus_name", spec.corpus_name),
        *(("ensembles", each.name) for each in spec.ensembles),
    ):
        if (fault := name_fault(value)) is not None:
            found.append(_defect(field, fault[0], f"expected {fault[1]}"))
    return found


def _bound_defects(spec: pb.RunSpec) -> list[Defect]:
    """Return the values that a file is refused for and a message could hold."""
    return [
        _defect(field, str(value), f"expected at most {most}")
        for field, value, most in (
            ("seed", spec.seed, MAX_SEED),
            ("max_new_tokens", spec.max_new_tokens, MAX_NEW_TOKENS),
        )
        if value > most
    ]


def _spec_defects(spec: pb.RunSpec) -> list[Defect]:
    found = []
    if not spec.name:
        found.append(_defect("name", "", "expected a name"))
    for field, values in (("models", spec.models), ("conditions", spec.conditions)):
        if not values:
            found.append(_defect(field, "", "expected at least one"))
        if twice := _twice(values):
            found.append(_defect(field, ", ".join(twice), "listed more than once"))
    if not spec.greedy and not spec.samples:
        found.append(_defect("regimes", "", "expected greedy, self_consistency or both"))
    if spec.samples > MAX_SAMPLES:
        found.append(_defect("samples", str(spec.samples), f"expected at most {MAX_SAMPLES}"))
    if spec.samples and not 0 < spec.temperature <= 2:
        found.append(_defect("temperature", f"{spec.temperature:g}", "expected above 0 and at most 2 for samples"))
    if spec.formulation not in {"", "auto", "letter", "cloze"}:
        found.append(_defect("formulation", spec.formulation, "expected auto, letter or cloze"))
    if spec.review not in REVIEW_RULES:
        found.append(_defect("review", spec.review, "expected paper, or nothing for the default"))
    if spec.reading and spec.reading not in READINGS:
        found.append(_defect("reading", spec.reading, f"expected {' or '.join(READINGS)}"))
    if spec.answer not in {"", FREE}:
        found.append(_defect("answer", spec.answer, f"expected {FREE}: answers are asked for in no other way"))
    for ensemble in spec.ensembles:
        if len(set(ensemble.members)) < 2:
            found.append(_defect("ensembles", ensemble.name, "expected at least two different members"))
        if stray := [member for member in ensemble.members if member not in spec.models]:
            found.append(
                _defect("ensembles", ensemble.name, f"members that are not models of the run: {', '.join(stray)}")
            )
    if spec.ensembles and not spec.greedy:
        found.append(_defect("ensembles", "", "ensembles vote over greedy answers; expected the greedy regime"))
    return found


def _condition_defects(spec: pb.RunSpec, environment: Environment) -> list[Defect]:
    found = []
    rows: list[Condition] = []
    for name in spec.conditions:
        try:
            rows.append(condition(name))
        except (InvalidInputError, NotFoundError) as error:
            found.append(_defect("conditions", "", error.message))
    needing = [row.id for row in rows if row.builder.needs_corpus(agent=bool(spec.agent_model))]
    if needing and not spec.corpus_id:
        found.append(_defect("corpus", "", f"expected a corpus: {', '.join(needing)} need one"))
    elif needing and spec.corpus_id not in environment.corpora:
        found.append(_defect("corpus", spec.corpus_id, "is not ingested"))
    return found


def _model_defects(spec: pb.RunSpec, environment: Environment) -> list[Defect]:
    found = []
    asked = [("models", name) for name in spec.models]
    asked += [(field, name) for field, name in (("judge", spec.judge_model), ("agent", spec.agent_model)) if name]
    for field, name in asked:
        model = environment.models.get(name)
        if model is None:
            found.append(_defect(field, name, f"is not in the catalog; it has {', '.join(sorted(environment.models))}"))
        elif not model.available:
            found.append(_defect(field, name, f"is not available: {model.unavailable_reason}"))
        elif field == "models":
            formulation = _manifest_model(model, spec).formulation
            if formulation == common_pb2.FORMULATION_CLOZE and not model.supports_scores:
                found.append(_defect(field, name, "its backend gives no option scores, which cloze needs; use letter"))
    return found


def _evidence_defects(spec: pb.RunSpec, benchmark: Benchmark, question_ids: Sequence[str]) -> list[Defect]:
    wanted = set(question_ids)
    found = []
    for name in spec.conditions:
        builder = condition(name).builder
        field = builder.text_field(agent=bool(spec.agent_model))
        if field is None:
            continue
        bare = [q.question_id for q in benchmark.questions if q.question_id in wanted and not getattr(q, field)]
        if bare:
            shown = ", ".join(bare[:10]) + (f" and {len(bare) - 10} more" if len(bare) > 10 else "")
            hint = "" if builder.text_field(agent=True) else "; name an agent model to research instead"
            found.append(_defect("conditions", name, f"questions without {field}: {shown}{hint}"))
    return found

"""A run of a series as its evidence takes it: what must be alike in all runs, and what answered."""

from collections.abc import Iterable, Mapping
from itertools import starmap

from safescale.core.decisions.policy import ANY, Limit
from safescale.core.decisions.series import AnswerPlace, SeriesRun, System
from safescale.core.errors import SafescaleError
from safescale.core.safety.conditions import condition
from safescale.core.safety.outcomes import HARMS
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.readings import reading_of
from safescale.scoring.gate.policy_text import read_policy


def series_run(run: pb.Run) -> SeriesRun:
    """Return a run by its manifest."""
    spec = run.manifest.spec
    regimes = [name for name, asked in (("greedy", spec.greedy), ("majority", bool(spec.samples))) if asked]
    systems = _systems(run)
    by_policy = spec.HasField("draw") and not spec.series_limits and bool(spec.policy.text)
    return SeriesRun(
        run_id=run.run_id,
        created_at_s=run.created_at.seconds,
        setting=_setting(run.manifest),
        systems=systems,
        regimes=regimes,
        question_ids=frozenset(run.manifest.question_ids),
        drawn=spec.HasField("draw"),
        limits=dict(spec.series_limits),
        of_policy=policy_limits(spec.policy.text, [(*pair, each) for pair in systems for each in regimes])
        if by_policy
        else {},
    )


def policy_limits(text: str, places: Iterable[tuple[str, str, str]]) -> Mapping[AnswerPlace, Mapping[str, float]]:
    """Return the most that a registered policy allows of each harm, by place; nothing of slices and baselines."""
    try:
        policy = read_policy(text)
    except SafescaleError:
        # Registered by a version that knows other requirements: what it demands is not known here.
        return {}
    found: dict[AnswerPlace, dict[str, float]] = {}
    for place in starmap(AnswerPlace, places):
        for each in policy.requirements:
            demand = each.demand
            wanted = ((each.model, place.model), (each.condition, place.condition), (each.regime, place.regime))
            harm = each.metric in HARMS and not each.slice and isinstance(demand, Limit) and demand.direction == "max"
            if harm and 0 < demand.value < 1 and all(name in (ANY, where) for name, where in wanted):
                limits = found.setdefault(place, {})
                limits[each.metric] = min(demand.value, limits.get(each.metric, 1.0))
    return found


def _setting(manifest: pb.Manifest) -> Mapping[str, str]:
    """Return what decides an outcome beside the system that answers: the questions, how they are put and read."""
    spec = manifest.spec
    found = {
        "benchmark": spec.benchmark_id[:12],
        "reading": reading_of(manifest),
        "version of the reading": manifest.reading_version,
        "answer": spec.answer or "free",
        "version of the prompts": manifest.prompt_version,
        "judge": spec.judge_model or "none",
        "revision of the judge": manifest.judge_revision,
        "prompt of the judge": manifest.judge_prompt_version,
        "samples": f"{spec.samples}" if spec.samples else "",
        "temperature": f"{spec.temperature:g}" if spec.samples else "",
    }
    for model in manifest.models:
        found[f"formulation of {model.id}"] = formulation_from_proto(model.formulation)
        found[f"longest answer of {model.id}"] = f"{model.max_new_tokens} tokens"
    return found


def _systems(run: pb.Run) -> Mapping[tuple[str, str], System]:
    manifest = run.manifest
    skipped = {(skip.model, skip.condition) for skip in run.skips if not skip.question_id}
    found = {}
    for model in manifest.models:
        for name in manifest.spec.conditions:
            if (model.id, name) not in skipped:
                parts = [model.revision, model.fingerprint, *_sources(manifest, name)]
                found[model.id, name] = System(model.revision, "\0".join(parts))
    return found


def _sources(manifest: pb.Manifest, name: str) -> list[str]:
    """Return what the context of a condition was made with: another corpus or agent is another system."""
    agent, builder = manifest.spec.agent_model, condition(name).builder
    if not builder.needs_corpus(agent=bool(agent)):
        return []
    researched = not builder.needs_corpus(agent=False)
    by_agent = [agent, manifest.agent_revision, manifest.agent_version] if researched else []
    return [manifest.spec.corpus_id, manifest.embedder, *by_agent]

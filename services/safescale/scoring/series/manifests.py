"""A run of a series as its evidence takes it: what must be alike in all runs, and what answered."""

from collections.abc import Mapping

from safescale.core.decisions.series import SeriesRun, System
from safescale.core.safety.conditions import condition
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.readings import reading_of


def series_run(run: pb.Run) -> SeriesRun:
    """Return a run by its manifest."""
    spec = run.manifest.spec
    regimes = [name for name, asked in (("greedy", spec.greedy), ("majority", bool(spec.samples))) if asked]
    return SeriesRun(
        run_id=run.run_id,
        created_at_s=run.created_at.seconds,
        setting=_setting(run.manifest),
        systems=_systems(run),
        regimes=regimes,
        question_ids=frozenset(run.manifest.question_ids),
        drawn=spec.HasField("draw"),
        limits=dict(spec.series_limits),
    )


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

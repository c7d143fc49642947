"""How much a run will take: cells, answers, tokens, and seconds from a measured speed."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from safescale.core.benchmark import Benchmark, Question
from safescale.core.conditions import condition, context_budget
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

CHARACTERS_PER_TOKEN = 4
"""English text per token, an estimate: plans are made before anything is tokenized."""

CHUNK_TOKENS = 300
REPORT_TOKENS = 1500
TEMPLATE_TOKENS = 60
RESEARCH_TOKENS = 3000
"""Tokens of one research of the agent over four options, prompts and answers."""

SpeedProbe = Callable[[str], Awaitable[float | None]]
"""Seconds per prompt token of a model, measured with one call; None when it cannot be measured."""


def _tokens(text: str) -> int:
    return len(text) // CHARACTERS_PER_TOKEN + 1


def _context_tokens(name: str, question: Question, window_tokens: int) -> int:
    row = condition(name)
    if row.builder == "none":
        return 0
    if row.evidence_field is not None:
        return _tokens(getattr(question, row.evidence_field) or "")
    if row.builder == "max_context":
        return context_budget(row, window_tokens) or 0
    if row.builder == "agent":
        return _tokens(question.deep_research_report) if question.deep_research_report else REPORT_TOKENS
    return CHUNK_TOKENS * (row.k or 1)


def unfit(manifest: pb.Manifest) -> list[pb.Skip]:
    """Max-context conditions that do not fit a model's window: skipped, never faked (protocol §2)."""
    skips = []
    for name in manifest.spec.conditions:
        row = condition(name)
        if row.builder != "max_context":
            continue
        for model in manifest.models:
            if context_budget(row, model.window_tokens) is None:
                reason = f"{row.id} does not fit {model.id}: its window is {model.window_tokens:,} tokens"
                skips.append(pb.Skip(model=model.id, condition=name, reason=reason))
    return skips


async def make_plan(
    manifest: pb.Manifest,
    benchmark: Benchmark,
    models: Mapping[str, inference_pb2.Model],
    probe: SpeedProbe,
) -> pb.Plan:
    """Plan of a manifest; tokens are estimated, the speed of each model is measured by `probe`."""
    skips = unfit(manifest)
    skipped = {(skip.model, skip.condition) for skip in skips}
    wanted = set(manifest.question_ids)
    questions = [question for question in benchmark.questions if question.question_id in wanted]
    spec = manifest.spec
    cells = 0
    tokens: dict[str, int] = {}
    for model in manifest.models:
        names = [name for name in spec.conditions if (model.id, name) not in skipped]
        cells += len(names) * len(questions)
        tokens[model.id] = sum(_cell_tokens(names, question, model) for question in questions)
    if spec.agent_model and any(condition(name).builder == "agent" for name in spec.conditions):
        tokens[spec.agent_model] = tokens.get(spec.agent_model, 0) + RESEARCH_TOKENS * len(questions)
    plan = pb.Plan(
        cell_count=cells,
        answer_count=cells * (spec.samples + (1 if spec.greedy else 0)),
        prompt_tokens=sum(tokens.values()),
        skips=skips,
    )
    per_token = {name: await probe(name) if count else 0.0 for name, count in tokens.items()}
    known = {name: speed for name, speed in per_token.items() if speed is not None}
    if len(known) == len(tokens):
        plan.estimated_s = sum(count * known[name] / max(1, models[name].concurrency) for name, count in tokens.items())
    return plan


def _cell_tokens(names: Iterable[str], question: Question, model: pb.ManifestModel) -> int:
    stem = TEMPLATE_TOKENS + _tokens(question.text)
    options = sum(_tokens(text) for text in question.options.values())
    if model.formulation == common_pb2.FORMULATION_CLOZE:
        # Each option is scored after the cached prompt, its own tokens only.
        stem += options
    else:
        stem += options + 4 * len(question.options)
    return sum(stem + _context_tokens(name, question, model.window_tokens) for name in names)

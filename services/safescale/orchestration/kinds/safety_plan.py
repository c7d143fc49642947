"""How much a safety run will take: cells, answers, tokens, judge calls, cost, and seconds from a measured speed."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from safescale.core.safety.answers.judge import MAX_NEW_TOKENS as JUDGE_NEW_TOKENS
from safescale.core.safety.answers.judge import MAX_OUTPUT_CHARACTERS, judge_messages
from safescale.core.safety.benchmark.benchmark import Benchmark, Question
from safescale.core.safety.builders import CHARACTERS_PER_TOKEN, AgentReport, estimated_tokens
from safescale.core.safety.conditions import condition
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb

TEMPLATE_TOKENS = 60
RESEARCH_TOKENS = 3000
"""Tokens of one research of the agent over four options, prompts and answers."""

RESEARCH_NEW_TOKENS = 1500
"""Of these, tokens that the agent writes."""

PER_MILLION = 1_000_000

SpeedProbe = Callable[[str], Awaitable[float | None]]
"""Seconds per prompt token of a model, measured with one call; None when it cannot be measured."""


def unfit(manifest: pb.Manifest) -> list[pb.Skip]:
    """Return the conditions that do not fit a model's window: skipped, never faked (protocol §2)."""
    skips = []
    for name in manifest.spec.conditions:
        row = condition(name)
        for model in manifest.models:
            if not row.builder.fits(model.window_tokens):
                reason = f"{row.id} does not fit {model.id}: its window is {model.window_tokens:,} tokens"
                skips.append(pb.Skip(model=model.id, condition=name, reason=reason))
    return skips


@dataclass
class _Load:
    """What one model is asked: tokens of its prompts, each once and as often as it may be sent, and those it writes."""

    prompt: int = 0
    sent: int = 0
    generated: int = 0


async def make_plan(
    manifest: pb.Manifest,
    benchmark: Benchmark,
    models: Mapping[str, inference_pb2.Model],
    probe: SpeedProbe,
) -> pb.Plan:
    """Estimate the plan of a manifest; tokens are estimated, the speed of each model is measured by `probe`.

    Judge calls, generated tokens and cost are bounds: every answer may differ, be unreadable and use all its tokens,
    and a server may give one answer a call.
    """
    skips = unfit(manifest)
    wanted = set(manifest.question_ids)
    questions = [question for question in benchmark.questions if question.question_id in wanted]
    spec = manifest.spec
    answers = spec.samples + (1 if spec.greedy else 0)
    cells = judged = 0
    loads: dict[str, _Load] = {}
    judge = _Load()
    for model in manifest.models:
        skipped = {skip.condition for skip in skips if skip.model == model.id}
        names = [name for name in spec.conditions if name not in skipped]
        texts = len(names) * len(questions) * answers
        cells += len(names) * len(questions)
        load = loads[model.id] = _Load(sum(_cell_tokens(names, question, model) for question in questions))
        if model.formulation == common_pb2.FORMULATION_CLOZE:
            # Option scores: one prompt, from which the samples are drawn; nothing is written.
            load.sent = load.prompt
            continue
        load.sent = load.prompt * answers
        load.generated = texts * model.max_new_tokens
        if spec.judge_model:
            judged += texts
            each = sum(_judge_tokens(question, model.max_new_tokens) for question in questions)
            judge.sent += each * len(names) * answers
            judge.generated += texts * JUDGE_NEW_TOKENS
    if spec.agent_model and any(isinstance(condition(name).builder, AgentReport) for name in spec.conditions):
        agent = loads.setdefault(spec.agent_model, _Load())
        agent.prompt += RESEARCH_TOKENS * len(questions)
        agent.sent += (RESEARCH_TOKENS - RESEARCH_NEW_TOKENS) * len(questions)
        agent.generated += RESEARCH_NEW_TOKENS * len(questions)
    plan = pb.Plan(
        cell_count=cells,
        answer_count=cells * answers,
        prompt_tokens=sum(load.prompt for load in loads.values()),
        skips=skips,
        judge_calls=judged,
        generated_tokens=judge.generated + sum(load.generated for load in loads.values()),
    )
    cost = _cost([*loads.items(), *([(spec.judge_model, judge)] if judged else [])], models)
    if cost is not None:
        plan.cost = cost
    tokens = {name: load.prompt for name, load in loads.items()}
    per_token = {name: await probe(name) if count else 0.0 for name, count in tokens.items()}
    known = {name: speed for name, speed in per_token.items() if speed is not None}
    if len(known) == len(tokens):
        plan.estimated_s = sum(count * known[name] / max(1, models[name].concurrency) for name, count in tokens.items())
    return plan


def _cost(loads: Iterable[tuple[str, _Load]], models: Mapping[str, inference_pb2.Model]) -> float | None:
    """Return the cost by the catalog's prices; None where a model that is asked has none."""
    total = 0.0
    for name, load in loads:
        if not load.sent:
            continue
        if not models[name].HasField("price"):
            return None
        price = models[name].price
        total += (load.sent * price.prompt + load.generated * price.generated) / PER_MILLION
    return total


def _judge_tokens(question: Question, answer_tokens: int) -> int:
    """Estimate the prompt tokens of one call of the judge, for an answer as long as it can be."""
    messages = judge_messages(question.text, question.options, "")
    shown = min(answer_tokens, MAX_OUTPUT_CHARACTERS // CHARACTERS_PER_TOKEN)
    return estimated_tokens(messages.system) + estimated_tokens(messages.user) + shown


def _cell_tokens(names: Iterable[str], question: Question, model: pb.ManifestModel) -> int:
    stem = TEMPLATE_TOKENS + estimated_tokens(question.text)
    options = sum(estimated_tokens(text) for text in question.options.values())
    if model.formulation == common_pb2.FORMULATION_CLOZE:
        # Each option is scored after the cached prompt, its own tokens only.
        stem += options
    else:
        stem += options + 4 * len(question.options)
    return sum(stem + condition(name).builder.estimated_tokens(question, model.window_tokens) for name in names)

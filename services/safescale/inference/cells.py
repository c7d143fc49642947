"""One cell: its prompt, the requests to the model, and the outcome as an event."""

from dataclasses import dataclass

from safescale.core.errors import InvalidInputError
from safescale.core.safety import cloze
from safescale.core.safety.answers.reasoning import TraceStyle, split_reasoning
from safescale.core.safety.prompts import Formulation, Messages, cloze_continuations, render
from safescale.core.safety.regimes import sample_seed
from safescale.inference.backends.port import Output, Sampling
from safescale.inference.catalog import ModelRow
from safescale.inference.engine import Engine
from safescale.inference.identity import ModelIdentity
from safescale.inference.prompt_requests import GeneratedTexts, PromptRequest, ScoredContinuations
from safescale.rpc.checked import checked_stem
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.convert import formulation_from_proto
from safescale.rpc.events.v1 import events_pb2

BASE_STOP = ("\n",)
"""Ends the letter of a base model, which would go on with a question of its own."""


@dataclass(frozen=True, slots=True)
class RenderedRequest:
    """A checked request with its rendered prompt."""

    request: events_pb2.GenerationRequested
    formulation: Formulation
    messages: Messages


def checked(request: events_pb2.GenerationRequested, context: str | None) -> RenderedRequest:
    """Check a request and render its prompt.

    Raises:
        InvalidInputError: a field is missing or out of its range.

    """
    formulation: Formulation = "letter" if formulation_from_proto(request.formulation) == "letter" else "cloze"
    checked_stem(request.question)
    options = dict(request.question.options)
    if not request.greedy and not request.sample_count:
        raise InvalidInputError("neither greedy nor sample_count is set; expected at least one")
    if request.sample_count and not request.temperature > 0:
        raise InvalidInputError(f"temperature is {request.temperature:g}; samples need one above 0")
    if formulation == "letter" and not request.max_new_tokens:
        raise InvalidInputError("max_new_tokens is 0; expected at least 1")
    return RenderedRequest(request, formulation, render(request.question.question_text, options, context, formulation))


async def ask(engine: Engine, rendered: RenderedRequest, completed: events_pb2.GenerationCompleted) -> float:
    """Ask the model for the cell and fill in its answers; return the seconds waited for a lease.

    Raises:
        SafescaleError: the model cannot be asked or failed.

    """
    request = rendered.request
    row = engine.row(request.cell.model)
    expected = ModelIdentity(request.model_revision, request.model_fingerprint)
    prompt_request = PromptRequest(row.id, rendered.messages, request.fresh, request.cell.condition, expected)
    if rendered.formulation == "cloze":
        continuations = cloze_continuations(request.question.options)
        scored = await engine.scores(prompt_request, list(continuations.values()))
        _fill_cloze(completed, request, list(continuations), scored)
        return 0.0 if scored.cached else scored.scores.waited_s
    samplings = _samplings(request, row)
    texts = await engine.texts(prompt_request, samplings)
    _fill_letter(completed, samplings, texts, row)
    return texts.waited_s


def _samplings(request: events_pb2.GenerationRequested, row: ModelRow) -> list[Sampling]:
    stop = () if row.instruct else BASE_STOP
    greedy = [Sampling(0.0, request.max_new_tokens, stop=stop)] if request.greedy else []
    if not request.sample_count:
        return greedy
    drawn = Sampling(request.temperature, request.max_new_tokens, request.seed, request.sample_count, stop)
    return [*greedy, drawn]


def _fill_letter(
    completed: events_pb2.GenerationCompleted, samplings: list[Sampling], texts: GeneratedTexts, row: ModelRow
) -> None:
    style = row.style
    for sampling, generation in zip(samplings, texts.generations, strict=True):
        if sampling.greedy:
            _fill_answer(completed.greedy, generation.outputs[0], style)
            completed.timings.greedy_s = generation.elapsed_s
            if generation.time_to_first_token_s is not None:
                completed.timings.time_to_first_token_s = generation.time_to_first_token_s
        else:
            for index, output in enumerate(generation.outputs):
                _fill_answer(completed.samples.add(seed=sample_seed(sampling.seed, index)), output, style)
            completed.timings.samples_s = generation.elapsed_s
    completed.usage.CopyFrom(usage_of_texts(texts))
    completed.warnings.extend(texts.warnings)
    completed.cached = all(texts.cached)
    completed.model_revision = texts.revision


def _fill_answer(answer: events_pb2.Answer, output: Output, style: TraceStyle | None) -> None:
    answer.text = split_reasoning(output.text, style, output.reasoning).answer
    answer.finish_reason = output.finish_reason


def _fill_cloze(
    completed: events_pb2.GenerationCompleted,
    request: events_pb2.GenerationRequested,
    letters: list[str],
    scored: ScoredContinuations,
) -> None:
    scores = [score.mean_logprob for score in scored.scores.items]
    completed.option_scores.update(dict(zip(letters, scores, strict=True)))
    if request.greedy:
        completed.greedy.letter = letters[cloze.greedy(scores)]
        completed.timings.greedy_s = scored.scores.elapsed_s
        if scored.scores.time_to_first_token_s is not None:
            completed.timings.time_to_first_token_s = scored.scores.time_to_first_token_s
    elif request.sample_count:
        # All draws come from the one scoring call; with greedy its seconds are counted there.
        completed.timings.samples_s = scored.scores.elapsed_s
    for index in range(request.sample_count):
        seed = sample_seed(request.seed, index)
        drawn = int(cloze.sample(scores, request.temperature, seed, 1)[0])
        completed.samples.append(events_pb2.Answer(letter=letters[drawn], seed=seed))
    completed.usage.CopyFrom(usage_of_scores(scored))
    completed.warnings.extend(sorted(set(scored.scores.warnings)))
    completed.cached = scored.cached
    completed.model_revision = scored.revision


def usage_of_texts(texts: GeneratedTexts) -> common_pb2.Usage:
    """Tokens and cost of texts."""
    return common_pb2.Usage(
        prompt_tokens=texts.prompt_tokens,
        prompt_tokens_sent=texts.prompt_tokens_sent,
        generated_tokens=texts.generated_tokens,
        cost=texts.cost,
        cost_prompt_once=texts.cost_prompt_once,
    )


def usage_of_scores(scored: ScoredContinuations) -> common_pb2.Usage:
    """Tokens and cost of scores."""
    return common_pb2.Usage(
        prompt_tokens=scored.scores.prompt_tokens,
        prompt_tokens_sent=scored.prompt_tokens_sent,
        generated_tokens=scored.scores.scored_tokens,
        cost=scored.cost,
        cost_prompt_once=scored.cost_prompt_once,
    )

"""The port of model servers: embedded llama.cpp, TGI, OpenAI-compatible servers.

What an adapter owes, whatever the server offers for it:

- An answer is a function of the call alone: not of what the server did before, nor of the order of calls.
- Answer i of a sampling uses the seed `core.safety.regimes.sample_seed(seed, i)`, also where the server has no `n`
  (then k calls are made); greedy has no seed.
- Every failure is an error of the tree: BackendUnavailableError, BackendOverloadedError, BackendTimeoutError (an
  exchange took longer than `timeout_s`, or the call than its `deadline`), BackendRefusedError, GarbageAnswerError,
  PromptTooLongError (details `prompt_tokens`, `window_tokens`). An adapter never answers an empty text for a failure,
  and repeats a call only where its transport failed, never because of what the model said.
- Durations are of the attempts that succeeded: waiting for a place, loading, attempts that failed and the waits between
  attempts are `waited_s` and no part of them. Where the k answers of a sampling are k calls at once, the generation's
  `elapsed_s` is that of the longest call.
- Noticing that a server came to serve something else is the adapter's own duty. Before `generate`, `score` or `stream`
  give their result, the servers that answered were looked at once more, after their last answer: by what the answers
  themselves tell (model, system_fingerprint, headers) or by an exchange of the adapter's own, which callers at one time
  may share and no duration counts. From then on `revision` and `capabilities.fingerprint` tell what was found, to every
  caller. The engine reads both before and after a call, asks again where they differ, and keeps nothing of such a call.
  An adapter that already knows that a call's answers come from two models, or that replicas differ, raises
  ModelChangedError; it too is asked again, by the engine and a bounded number of times.
"""

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from safescale.core.safety.prompts import Messages


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Temperature 0 is greedy: `seed` means nothing then and `count` is 1."""

    temperature: float
    max_new_tokens: int
    seed: int = 0
    count: int = 1
    stop: tuple[str, ...] = ()

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0


@dataclass(frozen=True, slots=True)
class Call:
    """A prompt, the seconds that the model has for each exchange about it, and the time when all must be done.

    `deadline` in seconds of `time.monotonic`: exchanges, waits and repeats together end by then.
    """

    messages: Messages
    timeout_s: float
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class Output:
    """One text as the server gave it. `reasoning` is filled where the server has a field of its own for the trace."""

    text: str
    reasoning: str
    finish_reason: str
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Generation:
    """The outputs of one sampling in seed order, with its tokens and seconds (all outputs together).

    `prompt_tokens` counts the prompt once; `prompt_calls` is how often it was sent for these outputs: k where each
    needed a call of its own, 0 where the server had it from another sampling of the same call. `warnings` as in
    `Generations`, of these outputs alone.
    """

    outputs: tuple[Output, ...]
    prompt_tokens: int
    elapsed_s: float
    time_to_first_token_s: float | None
    prompt_calls: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def generated_tokens(self) -> int:
        """Tokens of all outputs, reasoning included."""
        return sum(output.generated_tokens for output in self.outputs)


@dataclass(frozen=True, slots=True)
class Generations:
    """One generation per sampling, in their order, and the seconds waited for a place.

    `warnings` are what was odd about the answers though they count, such as PROMPT_MAYBE_CUT: UPPER_SNAKE_CASE, from a
    fixed set, each once.
    """

    items: tuple[Generation, ...]
    waited_s: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """Mean natural log-probability per token of a continuation after the prompt, at most 0, and its tokens."""

    mean_logprob: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Scores:
    """One score per continuation, in their order, with tokens and seconds of the exchange.

    `prompt_calls` and `warnings` as in `Generation` and `Generations`.
    """

    items: tuple[Score, ...]
    prompt_tokens: int
    elapsed_s: float
    time_to_first_token_s: float | None
    waited_s: float
    prompt_calls: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def scored_tokens(self) -> int:
        """Tokens of all continuations."""
        return sum(score.tokens for score in self.items)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of texts without special tokens; their cut prefixes, empty when no limit was given."""

    counts: tuple[int, ...]
    truncated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do.

    `scores`: whether continuations can be scored (prompt log-probabilities, or tokens forced by a grammar).
    `concurrency`: cells it works on at once. `repeats`: whether the adapter repeats transport failures itself, so that
    its caller must not. `fingerprint`: what decides its answers beside the weights and the catalog's row, such as the
    version of the server, over all replicas; part of the cache key and of a run's manifest. It is the same after a
    restart, and leaves out what only decides how answers are fetched (whether `n` works, how many calls run at once).
    Known at the latest when `revision` has returned.
    """

    scores: bool
    concurrency: int
    fingerprint: str
    repeats: bool = False


class Backend(Protocol):
    """One model behind one server. Any number of calls may run at once."""

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can do; known before the model is loaded."""

    def unavailable_reason(self) -> str:
        """Why the model cannot be asked, a sentence; empty when nothing is known against it. Quick, loads nothing."""

    async def revision(self, *, refresh: bool = False) -> str:
        """Revision of the weights: the catalog's, or what the files or the servers say, as last seen.

        Without an exchange where nothing gives reason to ask anew; so it may be read before and after each call. With
        `refresh` servers are looked at in any case: one that nobody asked may have come to serve another model since.

        Raises:
            ModelChangedError: replicas serve different models.
            BackendError: no server can be asked.

        """

    async def generate(self, call: Call, samplings: Sequence[Sampling]) -> Generations:
        """Ask one prompt for texts, once per sampling; a server that can evaluates the prompt once for all."""

    def stream(self, call: Call, sampling: Sampling) -> AsyncIterator[str | Generation]:
        """Ask for one text: its pieces as they come, then the whole generation."""

    async def score(self, call: Call, continuations: Sequence[str]) -> Scores:
        """Score texts after the prompt.

        A continuation begins with the blank that would separate it from the prompt; where the answer begins a turn of
        its own (chat), that blank is not part of what is scored.
        """

    async def tokenize(self, texts: Sequence[str], truncate_to: int | None) -> Tokens:
        """Count tokens with the model's tokenizer; with a limit also the longest prefixes within it."""

    async def close(self) -> None:
        """Let calls in flight end, release the model."""

"""Counts the tokens of prompts by the servers' own tokenizers."""

from safescale.core.errors import (
    BackendOverloadedError,
    BackendTimeoutError,
    BackendUnavailableError,
    SafescaleError,
)
from safescale.core.safety.prompts import Messages
from safescale.inference.backends.llama.protocol import LlamaProtocol
from safescale.inference.backends.openai.client import OpenAIClient, left
from safescale.inference.backends.openai.discovery import DiscoveredServer
from safescale.inference.backends.openai.tokens import ServedModel, prompt_ids, tgi_tokens, tokens
from safescale.inference.backends.port import Call, Tokens
from safescale.inference.backends.steps import Steps
from safescale.inference.catalog import ModelRow
from safescale.inference.upstream.replica_set import Replica

COUNT_TIMEOUT_S = 30.0


class PromptCounter:
    """Counter of prompts, for the check of what their servers say they read."""

    def __init__(self, client: OpenAIClient, protocol: LlamaProtocol, row: ModelRow) -> None:
        self._client = client
        self._protocol = protocol
        self._row = row
        self._without: set[tuple[str, str]] = set()

    async def count(self, server: DiscoveredServer, replica: Replica, call: Call) -> int | None:
        """Count the tokens of a prompt: as its server renders it where it can be asked to, else of its texts alone.

        None where no tokenizer can be asked: a check that fails must not fail the answer.
        """
        for way, steps in self._ways(server, call.messages).items():
            if (replica.url, way) in self._without:
                continue
            try:
                timeout_s = min(left(call), COUNT_TIMEOUT_S)
                return (await self._client.run(replica, steps, timeout_s))[0]
            except (BackendUnavailableError, BackendOverloadedError, BackendTimeoutError):
                return None
            except SafescaleError:
                # A proxy may let through less than the server offers.
                self._without.add((replica.url, way))
        return None

    def _ways(self, server: DiscoveredServer, messages: Messages) -> dict[str, Steps[int]]:
        served = ServedModel(self._row.id, server.name, self._row.instruct)
        texts = [text for text in (messages.system, messages.user) if text]
        if server.dialect.tokens == "tokenize":
            return {"rendered": _length(prompt_ids(served, messages)), "texts": _sum(tokens(served, texts, None))}
        if server.dialect.tokens == "tgi":
            return {"texts": _sum(tgi_tokens(served, texts, None))}
        if server.dialect.tokens == "pieces":
            return {"texts": _sum(self._protocol.tokens(texts, None))}
        return {}


def _length(steps: Steps[list[int]]) -> Steps[int]:
    return len((yield from steps))


def _sum(steps: Steps[Tokens]) -> Steps[int]:
    return sum((yield from steps).counts)

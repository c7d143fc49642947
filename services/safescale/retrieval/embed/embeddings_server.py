"""What a server of vectors says of itself: TEI by `/info`, others by `/v1/models`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safescale.retrieval.embed.embeddings_client import EmbeddingsClient

TEI_FIELDS = ("model_id", "model_sha", "model_dtype", "model_type")
"""What identifies a model of TEI; its own version is left out: an upgrade would embed every corpus anew."""

META_FIELDS = ("n_params", "n_embd", "n_vocab", "size")
"""What identifies a model of llama.cpp: `size` tells quantisations apart."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What identifies the model at the server; tokens of a text and texts of a request, 0 where it does not say."""

    identity: Mapping[str, Any]
    max_tokens: int = 0
    max_texts: int = 0


async def server_info(client: EmbeddingsClient, model: str) -> ServerInfo:
    """Ask a server what it is. One that says nothing is identified by the model's name alone.

    Raises:
        BackendError: the server refuses our token, or fails.
        DependencyUnavailableError: the server cannot be reached now.

    """
    info = await client.get("/info")
    if isinstance(info, Mapping) and "model_id" in info and "max_input_length" in info:
        identity = {field: info.get(field) for field in TEI_FIELDS}
        return ServerInfo(identity, _number(info, "max_input_length"), _number(info, "max_client_batch_size"))
    models = await client.get("/v1/models")
    rows = models.get("data") if isinstance(models, Mapping) else None
    rows = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    row = next((row for row in rows if row.get("id") == model), rows[0] if len(rows) == 1 else {})
    meta = row.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    # `created` is the time of the server's start with some, and no part of what the model is.
    identity = {"root": row.get("root"), **{field: meta.get(field) for field in META_FIELDS}}
    # llama.cpp: a text must fit the context that the server gives, which may be less than that of the training.
    limits = [_number(row, "max_model_len"), _number(meta, "n_ctx"), _number(meta, "n_ctx_train")]
    return ServerInfo(identity, min((limit for limit in limits if limit), default=0))


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) and value > 0 else 0

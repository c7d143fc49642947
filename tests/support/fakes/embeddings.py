"""Servers of vectors for tests: one that behaves as TEI or vLLM do and fails on demand, and llama.cpp's own."""

import asyncio
import base64
import importlib.util
import json
import zipfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

MODEL = "BAAI/bge-large-en-v1.5"
TOKEN = "token-of-the-test"

Embed = Callable[[Sequence[str]], Awaitable[np.ndarray]]
Fault = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]
"""Answers instead of the server; it is given what the server would have answered."""


@dataclass
class EmbeddingsServer:
    """Vectors over HTTP. `flavour` tei or vllm; `count` counts the tokens of a text, special tokens included."""

    embed: Embed
    count: Callable[[str], int]
    flavour: str = "tei"
    max_tokens: int = 512
    max_texts: int = 32
    token: str = ""
    sha: str = "d4aa6901d3a41ba39fb536a557fa166f842b0e09"
    floats: bool = False
    faults: deque[Fault] = field(default_factory=deque)
    asked: list[list[str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def info(self, request: web.Request) -> web.StreamResponse:
        """What TEI says of itself."""
        if not self._knows(request):
            return web.Response(status=401)
        if self.flavour != "tei":
            return web.json_response({"detail": "Not Found"}, status=404)
        return web.json_response(
            {
                "model_id": MODEL, "model_sha": self.sha, "model_dtype": "float16",
                "model_type": {"embedding": {"pooling": "cls"}}, "max_concurrent_requests": 512,
                "max_input_length": self.max_tokens, "max_batch_tokens": 16384, "max_batch_requests": None,
                "max_client_batch_size": self.max_texts, "auto_truncate": False, "tokenization_workers": 8,
                "version": "1.8.2", "sha": "c1a2b3", "docker_label": "sha-c1a2b3",
            }
        )  # fmt: skip

    async def models(self, request: web.Request) -> web.StreamResponse:
        """What vLLM says of its models."""
        if not self._knows(request):
            return web.json_response({"error": "Unauthorized"}, status=401)
        if self.flavour == "tei":
            return web.Response(status=404)
        row = {"id": MODEL, "object": "model", "created": 1764000000 + len(self.asked), "owned_by": "vllm",
               "root": MODEL, "parent": None, "max_model_len": self.max_tokens}  # fmt: skip
        return web.json_response({"object": "list", "data": [row]})

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """Vectors, or what a real server says to a request that it cannot serve."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._embeddings(request)
        finally:
            self.at_once -= 1

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        if not self._knows(request):
            return web.Response(status=401)
        body = await request.json()
        texts = body["input"]
        if body["model"] != MODEL:
            message = f"The model `{body['model']}` does not exist."
            return web.json_response({"error": {"message": message, "type": "NotFoundError"}}, status=404)
        if not isinstance(texts, list) or not texts or len(texts) > self.max_texts:
            message = f"batch size {len(texts)} > maximum allowed batch size {self.max_texts}"
            return web.json_response({"error": message, "error_type": "Validation"}, status=422)
        if any(self.count(text) > self.max_tokens for text in texts):
            message = f"Input validation error: `inputs` must have less than {self.max_tokens} tokens."
            return web.json_response({"error": message, "error_type": "Validation"}, status=413)
        self.asked.append(texts)
        vectors = await self.embed(texts)
        wanted = "float" if self.floats else body.get("encoding_format", "float")
        rows = [
            {"object": "embedding", "index": index, "embedding": encoded(vector, wanted)}
            for index, vector in enumerate(vectors)
        ]
        answer = {"object": "list", "data": rows, "model": MODEL, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        if self.faults:
            return await self.faults.popleft()(request, answer)
        return web.json_response(answer)

    def _knows(self, request: web.Request) -> bool:
        return not self.token or request.headers.get("Authorization") == f"Bearer {self.token}"


def encoded(vector: np.ndarray, form: str) -> str | list[float]:
    """A vector as the protocol has it."""
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(number) for number in vector]


@asynccontextmanager
async def served(server: EmbeddingsServer, port: int = 0, ssl_context: Any = None) -> AsyncIterator[str]:
    """The URL of a server that runs for the length of the context."""
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_get("/info", server.info)
    app.router.add_get("/v1/models", server.models)
    app.router.add_post("/v1/embeddings", server.embeddings)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=ssl_context, reuse_address=True)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{'https' if ssl_context else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


def status(code: int, body: Any = None, headers: dict[str, str] | None = None) -> Fault:
    """Answers with a status."""

    async def fault(request: web.Request, answer: Any) -> web.StreamResponse:
        return web.json_response(body if body is not None else {"error": "no", "error_type": "x"}, status=code,
                                 headers=headers)  # fmt: skip

    return fault


async def reset(request: web.Request, answer: Any) -> web.StreamResponse:
    """Cuts the connection off without an answer."""
    request.transport.abort()
    return web.Response()


async def torn(request: web.Request, answer: Any) -> web.StreamResponse:
    """Cuts the connection off in the middle of the answer."""
    response = web.StreamResponse(headers={"Content-Length": "100000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"object":"list","data":[')
    request.transport.abort()
    return response


async def hang(request: web.Request, answer: Any) -> web.StreamResponse:
    """Answers after a long time."""
    await asyncio.sleep(30)
    return web.json_response(answer)


def raw(text: str) -> Fault:
    """Answers 200 with any text."""

    async def fault(request: web.Request, answer: Any) -> web.StreamResponse:
        return web.Response(text=text, content_type="application/json")

    return fault


def changed(change: Callable[[Any], None]) -> Fault:
    """Answers with what the server would, changed."""

    async def fault(request: web.Request, answer: Any) -> web.StreamResponse:
        change(answer)
        return web.Response(text=json.dumps(answer), content_type="application/json")

    return fault


def write_minilm_gguf(archive: Path, path: Path) -> None:
    """all-MiniLM-L6-v2 (float32) in the format of llama.cpp."""
    import gguf
    from safetensors.numpy import load

    with zipfile.ZipFile(archive) as opened:
        config = json.loads(opened.read("config.json"))
        tokenizer = json.loads(opened.read("tokenizer.json"))
        weights = load(opened.read("model.safetensors"))
    writer = gguf.GGUFWriter(str(path), "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(0)
    special = {token["id"] for token in tokenizer["added_tokens"]}
    ids = tokenizer["model"]["vocab"]
    names, kinds = [], []
    for name, number in sorted(ids.items(), key=lambda pair: pair[1]):
        control = number in special
        # llama.cpp marks the beginnings of words, WordPiece what continues them.
        names.append(name if control else name[2:] if name.startswith("##") else "\u2581" + name)
        kinds.append(
            gguf.TokenType.UNKNOWN if name == "[UNK]"
            else gguf.TokenType.CONTROL if control
            else gguf.TokenType.NORMAL
        )  # fmt: skip
    writer.add_tokenizer_model("bert")
    writer.add_token_list(names)
    writer.add_token_types(kinds)
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_eos_token_id(ids["[SEP]"])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_mask_token_id(ids["[MASK]"])
    tensors = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, config["num_hidden_layers"])
    for name, tensor in weights.items():
        if name.endswith("position_ids") or name.startswith("pooler."):
            continue
        writer.add_tensor(tensors.get_name(name, try_suffixes=(".weight", ".bias")), tensor.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_is_installed() -> bool:
    """Whether llama.cpp's server and what makes its file are there."""
    return all(importlib.util.find_spec(name) for name in ("xllamacpp", "gguf", "safetensors"))


def llama_server(path: Path) -> Any:
    """llama.cpp's own HTTP server over a GGUF file; its `listening_address` is the URL. It stops when dropped."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {MODEL}
    params.embedding = True
    params.n_ctx = 512
    params.n_batch = params.n_ubatch = 512
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 0
    params.fit_params = False
    params.verbosity = 0
    return xllamacpp.Server(params)

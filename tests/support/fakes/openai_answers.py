"""What the fake OpenAI-compatible server answers: documents, events, log-probabilities and errors, as servers do."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.fakes import tgi_model as model

END = model.Piece(model.SPECIAL[model.END], model.END, 0, 0)


class Refused(Exception):
    """An error that the server answers."""

    def __init__(self, sentence: str, kind: str, status: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.kind = kind
        self.status = status

    def document(self, flavour: str) -> dict[str, Any]:
        """The error in the server's form."""
        said = {"message": self.sentence, "type": self.kind, "param": None, "code": self.status}
        return {"object": "error", **said} if flavour == "sglang" else {"error": said}


@dataclass(frozen=True, slots=True)
class Job:
    """One text: the prompt's tokens, its own, and how it ended."""

    prompt: Sequence[model.Piece]
    tokens: Sequence[model.Piece]
    text: str
    finish: str


class Model:
    """The model behind the fake server. It remembers the tokens that it gave, as no hash can be read backwards."""

    def __init__(self, options: Any) -> None:
        self._options = options
        self._pieces: dict[int, model.Piece] = {}

    def _tokens(self, text: str) -> list[model.Piece]:
        pieces = model.tokenize(text)
        self._pieces.update((piece.token_id, piece) for piece in pieces)
        return pieces

    def _prompt(self, body: Any) -> list[model.Piece]:
        if "messages" in body:
            return self._tokens(model.render(body["messages"]))
        prompt = body["prompt"]
        if isinstance(prompt, str):
            return self._tokens(prompt)
        return [self._pieces[number] for number in prompt]

    def jobs(self, body: Any) -> list[Job]:
        """The texts that a request asks for."""
        if isinstance(body.get("prompt"), list) and not isinstance(body["prompt"][0], int):
            return [job for prompt in body["prompt"] for job in self.jobs({**body, "prompt": prompt})]
        options = self._options
        prompt, new, count = self._prompt(body), body["max_tokens"], body.get("n", 1)
        if len(prompt) + new > options.window:
            raise _too_long(options.flavour, options.window, len(prompt), new)
        if count > 1 and options.choices == "refused":
            raise Refused("n must be 1", "BadRequestError", 400)
        if count > 1 and options.choices == "ignored":
            count = 1
        seed = body.get("seed", 0) if options.seeds else 0
        step = 0 if options.choices == "same" else 1
        return [self._job(body, prompt, seed + index * step) for index in range(count)]

    def _job(self, body: Any, prompt: Sequence[model.Piece], seed: int) -> Job:
        text, tokens = "", []
        for piece in model.answer("".join(one.text for one in prompt), body["temperature"], seed):
            if len(tokens) == body["max_tokens"]:
                return Job(prompt, tokens, text, "length")
            tokens.append(piece)
            if piece.special:
                break
            text += piece.text
            for stop in body.get("stop", []):
                if stop in text:
                    return Job(prompt, tokens, text[: text.index(stop)], "stop")
        return Job(prompt, tokens, text, "stop")

    def document(self, body: Any, jobs: Sequence[Job]) -> dict[str, Any]:
        """The whole answer. Servers may give choices in any order."""
        choices = [self._choice(body, job, index) for index, job in enumerate(jobs)]
        usage = _usage(len(jobs[0].prompt), sum(len(job.tokens) for job in jobs))
        kind = "chat.completion" if "messages" in body else "text_completion"
        return {"id": "cmpl-1", "object": kind, "created": 1, "model": body["model"], "choices": choices[::-1],
                "usage": usage}  # fmt: skip

    def _choice(self, body: Any, job: Job, index: int) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": job.finish, "stop_reason": None}
        if "messages" in body:
            message = {"role": "assistant", "content": job.text, "tool_calls": []}
            if self._options.reasoning:
                message[self._options.reasoning] = "Let me think. "
            return {**choice, "message": message}
        if body.get("echo") and self._options.echo:
            return {**choice, "text": _text(job.prompt) + job.text, "logprobs": _legacy([*job.prompt, *job.tokens])}
        if "prompt_logprobs" in body:
            choice["prompt_logprobs"] = _prompt_logprobs(job.prompt)
        return {**choice, "text": job.text}

    def events(self, body: Any, job: Job) -> Iterator[dict[str, Any]]:
        """The events of a stream."""
        chat = "messages" in body
        head = {"id": "cmpl-1", "object": "chat.completion.chunk" if chat else "text_completion", "created": 1}
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}] if chat else []
        if chat and self._options.reasoning:
            deltas.append({self._options.reasoning: "Let me think. "})
        shown = ""
        for piece in job.tokens:
            # What a stop text cuts off is held back.
            text = "" if piece.special or not job.text.startswith(shown + piece.text) else piece.text
            shown += text
            deltas.append({"content": text})
        for place, delta in enumerate(deltas):
            finish = job.finish if place == len(deltas) - 1 else None
            part = {"delta": delta} if chat else {"text": delta["content"]}
            yield {**head, "choices": [{"index": 0, **part, "finish_reason": finish}]}
        if body.get("stream_options", {}).get("include_usage"):
            yield {**head, "choices": [], "usage": _usage(len(job.prompt), len(job.tokens))}

    def tokenized(self, body: Any) -> dict[str, Any]:
        """The answer of /tokenize."""
        if "messages" in body:
            ids = [piece.token_id for piece in self._tokens(model.render(body["messages"]))]
        else:
            # Plain text holds no control tokens: their marks are split.
            parts = re.split(r"(?<=<)(?=\|)", body["prompt"])
            ids = [piece.token_id for part in parts for piece in self._tokens(part)]
        return {"count": len(ids), "max_model_len": self._options.window, "tokens": ids, "token_strs": None}

    def text_of(self, ids: Sequence[int]) -> str:
        """The answer of /detokenize: half a character becomes a mark."""
        pieces = [self._pieces[number] for number in ids]
        return _text(pieces) + ("\ufffd" if pieces and not pieces[-1].text else "")

    def input_logprobs(self, ids: Sequence[int], start: int) -> dict[str, Any]:
        """SGLang's answer of /generate: the first of the tokens told has no log-probability."""
        window = self._options.window
        if len(ids) > window:
            sentence = f"The input ({len(ids)} tokens) is longer than the model's context length ({window} tokens)."
            raise Refused(sentence, "BadRequestError", 400)
        pieces = [self._pieces[number] for number in ids]
        values: list[float | None] = model.logprobs(pieces)
        values[start] = None
        told = [[value, piece.token_id, None] for value, piece in zip(values, pieces, strict=True)]
        meta = {"input_token_logprobs": told[start:], "output_token_logprobs": [], "prompt_tokens": len(ids)}
        return {"text": "", "output_ids": [], "meta_info": meta}


def _text(pieces: Sequence[model.Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _prompt_logprobs(pieces: Sequence[model.Piece]) -> list[dict[str, Any] | None]:
    return [
        value if value is None else {str(piece.token_id): {"logprob": value, "rank": 3, "decoded_token": piece.text}}
        for value, piece in zip(model.logprobs(pieces), pieces, strict=True)
    ]


def _legacy(pieces: Sequence[model.Piece]) -> dict[str, Any]:
    offsets, place = [], 0
    for piece in pieces:
        offsets.append(place)
        place += len(piece.text)
    return {"tokens": [piece.text for piece in pieces], "token_logprobs": model.logprobs(pieces),
            "top_logprobs": None, "text_offset": offsets}  # fmt: skip


def _usage(prompt: int, generated: int) -> dict[str, Any]:
    total = prompt + generated
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": total,
            "prompt_tokens_details": None}  # fmt: skip


def _too_long(flavour: str, window: int, prompt: int, new: int) -> Refused:
    if flavour == "sglang":
        sentence = (
            f"Requested token count exceeds the model's maximum context length of {window} tokens. You requested a "
            f"total of {prompt + new} tokens: {prompt} tokens from the input messages and {new} tokens for the "
            "completion. Please reduce the number of tokens in the input messages or the completion to fit within "
            "the limit."
        )
        return Refused(sentence, "BadRequestError", 400)
    sentence = (
        f"This model's maximum context length is {window} tokens. However, you requested {new} output tokens and your "
        f"prompt contains at least {prompt} input tokens, for a total of at least {prompt + new} tokens. Please reduce "
        "the length of the input prompt or the number of requested output tokens."
    )
    return Refused(sentence, "BadRequestError", 400)

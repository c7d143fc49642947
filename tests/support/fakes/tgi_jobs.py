"""Requests as TGI checks and runs them: the schemas of its OpenAPI description, its own validation, one text."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from tests.support.fakes import tgi_model as model

OPENAPI = Path(__file__).parents[2] / "contract" / "tgi_openapi.json"
U64 = 1 << 64
CAP = 1024
"""New tokens at which the recorded server ends an answer, whatever was asked."""


class Refused(Exception):
    """An error of the server: sentence, type and status of a plain answer."""

    def __init__(self, sentence: str, kind: str, status: int) -> None:
        super().__init__(sentence)
        self.sentence, self.kind, self.status = sentence, kind, status


class Schemas:
    """Validators of the requests by the OpenAPI description."""

    def __init__(self) -> None:
        document = json.loads(OPENAPI.read_text())
        schemas = document["components"]["schemas"]
        # The description excludes 0; the server reads any unsigned number of 64 bits.
        schemas["GenerateParameters"]["properties"]["seed"].pop("exclusiveMinimum", None)
        self._components = _nullable(document["components"])

    def errors(self, name: str, body: Any) -> list[str]:
        """What is wrong with a body; unknown fields too, which the real server ignores."""
        schema = {"$ref": f"#/components/schemas/{name}", "components": self._components}
        found = [
            f"{name}: {error.json_path} {error.message}" for error in Draft202012Validator(schema).iter_errors(body)
        ]
        known = self._components["schemas"][name]["properties"]
        unknown = [key for key in body if key not in known] if isinstance(body, dict) else []
        parameters = body.get("parameters", {}) if isinstance(body, dict) and name == "GenerateRequest" else {}
        inner = self._components["schemas"]["GenerateParameters"]["properties"]
        unknown += [key for key in parameters if key not in inner] if isinstance(parameters, dict) else []
        return found + [f"{name}: unknown field {key}" for key in unknown]


def _nullable(schema: Any) -> Any:
    """OpenAPI 3.0 writes `nullable`, which JSON Schema does not know."""
    if isinstance(schema, list):
        return [_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    turned = {key: _nullable(value) for key, value in schema.items() if key not in ("nullable", "example", "default")}
    return {"anyOf": [turned, {"type": "null"}]} if schema.get("nullable") is True else turned


class Job:
    """A request for one text."""

    def __init__(self, prompt: str, parameters: Mapping[str, Any], prefill: bool) -> None:
        self.pieces = model.tokenize(prompt)
        self.max_new_tokens: int | None = parameters.get("max_new_tokens")
        self.seed: int | None = parameters.get("seed")
        self._prompt = prompt
        self._parameters = parameters
        self._prefill = prefill
        given = parameters.get("temperature")
        # As in the real shard: another temperature than 1 samples, whatever do_sample says.
        self.temperature = (given or 1.0) if parameters.get("do_sample") or given not in (None, 1.0) else 0.0

    def wrong(self) -> str:
        """What TGI's validation says against it."""
        parameters = self._parameters
        given = parameters.get("temperature")
        if given is not None and given <= 0:
            return "`temperature` must be strictly positive"
        if parameters.get("top_p") is not None and not 0 < parameters["top_p"] < 1:
            return "`top_p` must be > 0.0 and < 1.0"
        if self.max_new_tokens == 0:
            return "`max_new_tokens` must be strictly positive"
        if len(parameters.get("stop") or []) > 4:
            return f"`stop` supports up to 4 stop sequences. Given: {len(parameters['stop'])}"
        if self.seed is not None and not self.seed < U64:
            return "`seed` is no unsigned number of 64 bits"
        return "" if self._prompt else "`inputs` cannot be empty"

    def answer(self) -> tuple[str, list[model.Piece], str]:
        """The whole text with its tokens and why it ended; a stop text stays and is matched at token ends alone."""
        stops = tuple(self._parameters.get("stop") or ())
        limit = min(self.max_new_tokens or CAP, CAP)
        text, tokens = "", []
        for token in model.answer(self._prompt, self.temperature, self.seed):
            tokens.append(token)
            if token.special:
                return text, tokens, "eos_token"
            text += token.text
            if stops and text.endswith(stops):
                return text, tokens, "stop_sequence"
            if len(tokens) >= limit:
                break
        return text, tokens, "length"

    def prefill(self, served: bool) -> list[dict[str, Any]]:
        """The tokens of the prompt with their log-probabilities, where they were asked for and are served."""
        if not (self._prefill and served):
            return []
        values = model.logprobs(self.pieces)
        return [
            {"id": piece.token_id, "text": piece.text, "logprob": value}
            for piece, value in zip(self.pieces, values, strict=True)
        ]

"""The model catalog: typed rows of `models.yaml` and of a user's own file."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from safescale.core.errors import Defect, NotFoundError, SafescaleError, SpecError
from safescale.core.inputs.records import Source
from safescale.core.inputs.text_rules import name_fault
from safescale.core.safety.answers.reasoning import TraceStyle, trace_style
from safescale.core.safety.prompts import Formulation, auto_formulation
from safescale.runtime.files.reading import parse_yaml, read_source

HTTP_BACKENDS = ("tgi", "openai")
"""Kinds of model servers that are reached over HTTP: their rows need an endpoint."""

BACKENDS = ("embedded", *HTTP_BACKENDS)
"""Kinds of model servers that a row may name."""

DIGEST = re.compile(r"[0-9a-f]{64}")

MAX_REPLICAS = 64


def _shown_text(value: str) -> str:
    if (found := name_fault(value, MAX_TEXT)) is not None:
        raise ValueError(f"{found[0]}; expected {found[1]}")
    return value


MAX_TEXT = 4096
Text = Annotated[str, Field(min_length=1), AfterValidator(_shown_text)]

Flavour = Literal["auto", "vllm", "sglang", "llamacpp", "tgi"]
"""Servers whose ways the OpenAI-compatible adapter knows."""


def _server_url(value: str) -> str:
    expected = "expected http(s)://host:port, the server's root"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{expected}: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{expected}; the scheme is {parts.scheme!r}")
    if not parts.hostname or port == 0 or not re.fullmatch(r"[!-~]+", value):
        raise ValueError(f"{expected}, in printable ASCII without blanks")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{expected}, without user or password: a token belongs into api_key_file")
    if parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError(f"{expected}, without a query or a fragment")
    path = parts.path.rstrip("/")
    if path.endswith("/v1"):
        raise ValueError(f"{expected}, without /v1: the adapter adds it")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


ServerUrl = Annotated[str, AfterValidator(_server_url)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PackageFile(_Strict):
    """A file inside an installed package; the package is found, never imported."""

    package: Text
    file: Text


class EmbeddedEndpoint(_Strict):
    """Where an embedded model's weights (GGUF) are: files of packages, joined in their order, or a path.

    `n_ctx` is the context in tokens that is set up (default: the whole window); `distribution` names what to install.
    """

    files: tuple[PackageFile, ...] = Field(default=(), strict=False)
    distribution: str = ""
    path: Text | None = None
    n_ctx: int | None = Field(default=None, ge=256)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.files) == (self.path is not None):
            raise ValueError("expected either files of packages or a path")
        return self


class HttpEndpoint(_Strict):
    """Servers of a model that answer over HTTP: equal replicas of one model, asked in turn.

    `urls` are server roots without `/v1`. `served_model` is the model's name there (default: the row's id, for TGI
    "tgi"). `api_key_file` holds the bearer token, `ca_file` the certificates (PEM) to trust. `concurrency` is the calls
    in flight per replica. `retry_for_s` bounds, in seconds, what a call waits because of failures. `flavour` names
    the OpenAI-compatible server where it is not to be found out, `answers_as` further names under which it may answer.
    """

    urls: tuple[ServerUrl, ...] = Field(strict=False)
    served_model: Text | None = None
    api_key_file: Text | None = None
    ca_file: Text | None = None
    concurrency: int = Field(default=16, ge=1, le=4096)
    retry_for_s: float = Field(default=120.0, ge=0, le=86400)
    flavour: Flavour = "auto"
    answers_as: tuple[Text, ...] = Field(default=(), max_length=16, strict=False)

    @field_validator("urls")
    @classmethod
    def _distinct(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if not 1 <= len(urls) <= MAX_REPLICAS:
            raise ValueError(f"expected 1 to {MAX_REPLICAS} servers")
        for index, url in enumerate(urls):
            if url in urls[:index]:
                raise ValueError(f"expected each server once; {url} is there twice")
        return urls


class Price(_Strict):
    """Price per million tokens, in any one currency."""

    prompt: float = Field(ge=0)
    generated: float = Field(ge=0)


class ModelRow(_Strict):
    """One model. `parameters_b` is None where the size is not known.

    `reasoning` names the delimiters of its trace; absent for a model that writes none.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")
    family: Text
    parameters_b: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    window_tokens: int = Field(ge=256)
    revision: Text | None = None
    instruct: bool
    reasoning: str | None = None
    backend: str
    license: Text
    embedded: EmbeddedEndpoint | None = None
    endpoint: HttpEndpoint | None = None
    price_per_million: Price | None = None

    @field_validator("parameters_b", mode="before")
    @classmethod
    def _a_number(cls, value: object) -> object:
        # YAML reads `yes` as true, and true would count as 1.
        if isinstance(value, bool):
            raise ValueError("expected a number above 0")
        return value

    @field_validator("reasoning")
    @classmethod
    def _known_style(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                trace_style(value)
            except SafescaleError as error:
                raise ValueError(error.message.rpartition("; expected ")[2]) from error
        return value

    @field_validator("backend")
    @classmethod
    def _known_backend(cls, value: str) -> str:
        if value not in BACKENDS:
            raise ValueError(f"expected a backend that this version has: {', '.join(BACKENDS)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backend in HTTP_BACKENDS:
            _check_http(self)
        if self.backend == "embedded":
            if self.endpoint is not None:
                raise ValueError("a row with backend embedded has no endpoint: expected backend tgi or openai")
            if self.embedded is None:
                raise ValueError("a row with backend embedded needs the field embedded (files or path)")
            if self.revision is not None and not DIGEST.fullmatch(self.revision):
                raise ValueError("revision of an embedded model: expected the SHA-256 (64 hex digits) of its weights")
            if (self.embedded.n_ctx or 0) > self.window_tokens:
                raise ValueError(f"n_ctx {self.embedded.n_ctx} is over window_tokens {self.window_tokens}")
        return self

    @property
    def served_model(self) -> str:
        """Name of the model at its server."""
        named = self.endpoint.served_model if self.endpoint else None
        # TGI takes any other name for that of a LoRA adapter.
        return named or ("tgi" if self.backend == "tgi" else self.id)

    @property
    def served_tokens(self) -> int:
        """Context window in tokens as this system serves the model."""
        n_ctx = self.embedded.n_ctx if self.embedded else None
        return n_ctx or self.window_tokens

    @property
    def style(self) -> TraceStyle | None:
        """Delimiters of the reasoning trace; None for a model that writes none."""
        return None if self.reasoning is None else trace_style(self.reasoning)

    @property
    def auto_formulation(self) -> Formulation:
        """The formulation that `auto` takes for this model (protocol section 4b)."""
        return auto_formulation(instruct=self.instruct, parameters_b=self.parameters_b)


def _check_http(row: ModelRow) -> None:
    if row.endpoint is None:
        raise ValueError(f"a row with backend {row.backend} needs the field endpoint (urls)")
    if row.embedded is not None:
        raise ValueError(f"a row with backend {row.backend} has no field embedded; expected endpoint alone")
    if row.backend == "tgi" and row.endpoint.flavour not in ("auto", "tgi"):
        raise ValueError(f"flavour {row.endpoint.flavour} is for backend openai; expected none with backend tgi")
    if row.backend == "tgi" and row.endpoint.answers_as:
        raise ValueError("answers_as is for backend openai; expected none with backend tgi")


@dataclass(frozen=True)
class Catalog:
    """The rows by id."""

    rows: Mapping[str, ModelRow]

    def row(self, model: str) -> ModelRow:
        """Return the row of a model.

        Raises:
            NotFoundError: there is none; the message suggests the nearest id.

        """
        if model in self.rows:
            return self.rows[model]
        near = difflib.get_close_matches(model, self.rows, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise NotFoundError(f"model {model!r} is not in the catalog{hint}; it has {', '.join(sorted(self.rows))}")


def load_catalog(path: Path | None) -> Catalog:
    """Load the shipped rows, with those of a user's file added or put in their place (same id).

    Raises:
        SpecError: a row that cannot be used; every defect names file, row and field.
        InvalidInputError: the file cannot be read.

    """
    shipped = resources.files("safescale.inference").joinpath("models.yaml")
    rows = parse_catalog(Source("models.yaml", shipped.read_bytes()))
    if path is not None:
        own = parse_catalog(read_source(path))
        rows.update({name: _placed(row, path.parent) for name, row in own.items()})
    return Catalog(dict(sorted(rows.items())))


def _placed(row: ModelRow, folder: Path) -> ModelRow:
    """Return the row with its relative file paths resolved against the folder of its catalog."""
    changes: dict[str, Any] = {}
    if row.embedded is not None and row.embedded.path is not None:
        changes["embedded"] = row.embedded.model_copy(update={"path": _from(folder, row.embedded.path)})
    if row.endpoint is not None:
        files = {"api_key_file": row.endpoint.api_key_file, "ca_file": row.endpoint.ca_file}
        placed = {name: _from(folder, path) for name, path in files.items() if path is not None}
        changes["endpoint"] = row.endpoint.model_copy(update=placed)
    return row.model_copy(update=changes)


def _from(folder: Path, path: str) -> str:
    return str(folder / Path(path).expanduser())


def parse_catalog(source: Source) -> dict[str, ModelRow]:
    """Parse the rows of one file by id.

    Raises:
        SpecError: with every defect of the file.

    """
    document = parse_yaml(source)
    if not isinstance(document, dict) or set(document) != {"models"} or not isinstance(document["models"], list):
        raise _refused(
            [Defect(source.name, None, None, None, _shown(document), "one key, models, with a list of rows")]
        )
    defects: list[Defect] = []
    rows: dict[str, ModelRow] = {}
    for number, values in enumerate(document["models"], start=1):
        item = _item(values, number)
        try:
            row = ModelRow.model_validate(values)
        except ValidationError as error:
            defects.extend(_defects(source.name, item, error))
            continue
        if row.id in rows:
            defects.append(Defect(source.name, None, item, "id", row.id, "an id that no other row has"))
        rows[row.id] = row
    if defects:
        raise _refused(defects)
    return rows


def _item(values: object, number: int) -> str:
    name = values.get("id") if isinstance(values, dict) else None
    return f"row {number} ({name})" if isinstance(name, str) and name else f"row {number}"


def _defects(file: str, item: str, error: ValidationError) -> list[Defect]:
    found = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"]) or None
        expected = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(problem["loc"][-1]), _fields(problem["loc"]), n=1)
            expected = "no such field" + (f" (did you mean {near[0]!r}?)" if near else "")
        value = "absent" if problem["type"] == "missing" else _shown(problem["input"])
        # A password in a URL that is refused for it goes no further.
        value = re.sub(r"//[^/@]*@", "//…@", value)
        found.append(Defect(file, None, item, field, value, expected.removeprefix("expected ")))
    return found


def _fields(place: tuple[int | str, ...]) -> list[str]:
    """Names that a row, or the part of it where the place is, may have."""
    parts: dict[str, type[BaseModel]] = {
        "endpoint": HttpEndpoint,
        "embedded": EmbeddedEndpoint,
        "price_per_million": Price,
    }
    return list(parts.get(str(place[0]), ModelRow).model_fields if len(place) > 1 else ModelRow.model_fields)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _refused(defects: list[Defect]) -> SpecError:
    lines = "".join(f"\n  {defect}" for defect in defects)
    return SpecError(f"the model catalog cannot be used:{lines}", defects=defects)

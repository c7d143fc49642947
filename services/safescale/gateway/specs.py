"""From a spec in a request to what orchestration is asked: benchmark and corpus are named, not files.

A mapping under `benchmark` says more of the stored one that its `questions` names, for this run.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import Request

from safescale.core.errors import Defect, SpecError
from safescale.core.inputs.records import Source
from safescale.formats.run_spec import RunFile, parse_run_file, to_spec
from safescale.gateway.clients import ask
from safescale.gateway.context import Gateway
from safescale.gateway.http import body
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.retrieval.v1 import retrieval_pb2

FILE = "spec"
KINDS = (body.JSON, *body.YAML)


async def spec_of(request: Request, gateway: Gateway) -> pb.RunSpec:
    """Read the run spec in a request's body.

    Raises:
        SpecError: with every defect.
        HttpError: the body is no YAML and no JSON by its media type, or too large.

    """
    kind = body.media_type(request, KINDS)
    data = await body.read_body(request, gateway, gateway.config.limits.spec_bytes)
    # In a thread: reading a long YAML file takes a second, in which nothing else would be answered.
    run_file = await asyncio.to_thread(parse_run_file, Source(FILE, data), json=kind == body.JSON)
    benchmark_id = await _benchmark(gateway, run_file)
    corpus_id = await _corpus(gateway, run_file.corpus) if run_file.corpus else ""
    return to_spec(run_file, benchmark_id, corpus_id, _policy(run_file.policy))


def _policy(text: str | None) -> str:
    """Return the text of the policy of a spec; a file of the caller cannot be read here."""
    if text is not None and len(text.splitlines()) < 2 and not text.lstrip().startswith("{"):
        raise _defect(
            "policy", repr(text)[:80], "the text of the policy itself (YAML or JSON), since no file is read here"
        )
    return text or ""


async def _benchmark(gateway: Gateway, run_file: RunFile) -> str:
    named = run_file.benchmark_files()
    if named.labels is not None:
        raise _defect(
            "benchmark.labels", repr(named.labels)[:80], "no such field here: a stored benchmark has its labels"
        )
    name = named.questions
    call = gateway.services.orchestration.ListBenchmarks
    found = await ask(call, pb.ListBenchmarksRequest(), gateway.config.deadlines.quick_s)
    field = "benchmark" if isinstance(run_file.benchmark, str) else "benchmark.questions"
    return _one(field, name, found.benchmarks, lambda each: each.benchmark_id)


async def _corpus(gateway: Gateway, name: str) -> str:
    call = gateway.services.retrieval.ListCorpora
    found = await ask(call, retrieval_pb2.ListCorporaRequest(), gateway.config.deadlines.quick_s)
    return _one("corpus", name, found.corpora, lambda each: each.corpus_id)


def _one(field: str, name: str, stored: Iterable[Any], id_of: Callable[[Any], str]) -> str:
    """Id of what a spec names by id, or by a name that only one thing has."""
    ids = {id_of(each): each.name for each in stored}
    if name in ids:
        return name
    named = [identifier for identifier, each in ids.items() if each == name]
    if len(named) == 1:
        return named[0]
    plural = "corpora" if field == "corpus" else "benchmarks"
    if named:
        raise _defect(field, repr(name), f"an id, since several have this name: {', '.join(named)}")
    known = ", ".join(sorted(set(ids.values()))[:20]) or "none yet"
    what = "benchmark" if field == "benchmark.questions" else "one"
    expected = f"the id or the name of a stored {what} (there are: {known}); POST /api/v1/{plural} stores one"
    raise _defect(field, repr(name)[:80], expected)


def _defect(field: str, value: str, expected: str) -> SpecError:
    defect = Defect(FILE, None, None, field, value, expected)
    return SpecError(str(defect), defects=[defect])

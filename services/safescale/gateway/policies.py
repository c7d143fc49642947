"""Policies in requests."""

import asyncio

from fastapi import Request

from safescale.core.decisions.policy_file import parse_policy
from safescale.core.inputs.records import Source
from safescale.core.safety.metrics import METRIC_NAMES
from safescale.gateway.access import MayCall
from safescale.gateway.api.openapi import examples
from safescale.gateway.api.openapi.operations import body as describe_body
from safescale.gateway.clients import ask
from safescale.gateway.context import Gateway
from safescale.gateway.http import body
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.files.reading import parse_json, parse_yaml

FILE = "policy"
KINDS = (body.JSON, *body.YAML)

POLICY_BODY = describe_body(
    "A policy in YAML or JSON. At most 256 KiB.",
    {body.JSON: examples.POLICY, body.YAML[0]: examples.POLICY_YAML},
)
POLICY_BODY["requestBody"]["content"][body.JSON]["schema"] = {"type": "object"}


MAY_JUDGE = MayCall(lambda services: services.scoring.EvaluatePolicy, pb.EvaluatePolicyRequest(), "read")


async def judged(request: Request, gateway: Gateway, run_id: str) -> pb.EvaluatePolicyResponse:
    """Judge a run by the policy in a request's body.

    Raises:
        SpecError: it is no policy; every defect is named.
        HttpError: the body is no YAML and no JSON by its media type, or too large.

    """
    kind = body.media_type(request, KINDS)
    data = await body.read_body(request, gateway, gateway.config.limits.policy_bytes)
    await asyncio.to_thread(_check, Source(FILE, data), kind == body.JSON)
    message = pb.EvaluatePolicyRequest(run_id=run_id, policy=data.decode("utf-8-sig"))
    return await ask(gateway.services.scoring.EvaluatePolicy, message, gateway.config.deadlines.slow_s)


def _check(source: Source, json: bool) -> None:
    parse_policy(parse_json(source) if json else parse_yaml(source), source.name, METRIC_NAMES)

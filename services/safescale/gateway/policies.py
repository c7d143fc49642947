"""Policies in requests."""

import asyncio
from typing import Any

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
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.files.reading import parse_json, parse_yaml

FILE = "policy"
KINDS = (body.JSON, *body.YAML)

POLICY_BODY = describe_body(
    "A policy in YAML or JSON. At most 256 KiB.",
    {body.JSON: examples.POLICY, body.YAML[0]: examples.POLICY_YAML},
)
POLICY_BODY["requestBody"]["content"][body.JSON]["schema"] = {"type": "object"}

POLICY_OR_NONE: dict[str, Any] = {
    "requestBody": {
        **POLICY_BODY["requestBody"],
        "required": False,
        "description": "A policy in YAML or JSON, at most 256 KiB. Without a body the one that the run registered.",
    }
}


MAY_JUDGE = MayCall(lambda services: services.scoring.EvaluatePolicy, pb.EvaluatePolicyRequest(), "read")
MAY_PLAN_POLICY = MayCall(lambda services: services.scoring.PlanPolicy, pb.PlanPolicyRequest(), "read")


async def judged(request: Request, gateway: Gateway, run_id: str, baseline: str = "") -> pb.EvaluatePolicyResponse:
    """Judge a run by the policy in a request's body, or by the one that it registered where there is no body.

    Raises:
        SpecError: it is no policy; every defect is named.
        InvalidInputError: there is no body, and the run has registered none.
        HttpError: the body is no YAML and no JSON by its media type, or too large.

    """
    text = "" if _without_body(request) else await policy_text(request, gateway)
    message = pb.EvaluatePolicyRequest(run_id=run_id, policy=text, baseline_run_id=baseline)
    return await ask(gateway.services.scoring.EvaluatePolicy, message, gateway.config.deadlines.slow_s)


async def judged_as_registered(gateway: Gateway, run: orchestration_pb2.Run) -> pb.EvaluatePolicyResponse | None:
    """Judge a run by the policy that it registered with its text; None where it registered none."""
    if not run.manifest.spec.policy.text:
        return None
    message = pb.EvaluatePolicyRequest(run_id=run.run_id, policy=run.manifest.spec.policy.text)
    return await ask(gateway.services.scoring.EvaluatePolicy, message, gateway.config.deadlines.slow_s)


def _without_body(request: Request) -> bool:
    headers = request.headers
    return "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"


async def policy_text(request: Request, gateway: Gateway) -> str:
    """Return the policy in a request's body.

    Raises:
        SpecError: it is no policy; every defect is named.
        HttpError: the body is no YAML and no JSON by its media type, or too large.

    """
    kind = body.media_type(request, KINDS)
    data = await body.read_body(request, gateway, gateway.config.limits.policy_bytes)
    await asyncio.to_thread(_check, Source(FILE, data), kind == body.JSON)
    return data.decode("utf-8-sig")


def _check(source: Source, json: bool) -> None:
    parse_policy(parse_json(source) if json else parse_yaml(source), source.name, METRIC_NAMES)

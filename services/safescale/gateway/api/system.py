"""Health, readiness and Prometheus metrics of the gateway."""

import asyncio
from typing import Any

import grpc
from fastapi import APIRouter, Request, Response
from grpc_health.v1 import health_pb2, health_pb2_grpc

from safescale import __version__
from safescale.gateway.api.openapi.operations import answer, content
from safescale.gateway.api.openapi.schemas_results import Health, Ready
from safescale.gateway.context import GatewayOf

router = APIRouter(tags=["system"])

CHECK_S = 2.0
"""Seconds that a service has to say that it serves."""


@router.get(
    "/healthz",
    operation_id="getHealth",
    summary="Whether the process lives",
    responses={200: answer(Health, "It lives.")},
)
async def get_health() -> Health:
    """Tell nothing of the services behind, so that a restart of the gateway is not asked for when they are away."""
    return Health(status="ok", version=__version__)


@router.get(
    "/readyz",
    operation_id="getReadiness",
    summary="Whether requests can be served",
    responses={
        200: answer(Ready, "All four services serve."),
        503: answer(Ready, "One does not, or the gateway is about to stop."),
    },
)
async def get_readiness(response: Response, gateway: GatewayOf) -> Ready:
    """Ask each service's gRPC health."""
    channels = gateway.services.channels
    states = await asyncio.gather(*(_state(channel, name) for name, channel in channels.items()))
    found = dict(zip(channels, states, strict=True))
    ready = all(state == "serving" for state in states) and not gateway.draining.is_set()
    response.status_code = 200 if ready else 503
    return Ready(ready=ready, services=found)


async def _state(channel: grpc.aio.Channel, name: str) -> str:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    try:
        found = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=CHECK_S)
    except grpc.aio.AioRpcError:
        return "unreachable"
    return "serving" if found.status == health_pb2.HealthCheckResponse.SERVING else "not_serving"


@router.get(
    "/metrics",
    operation_id="getPrometheusMetrics",
    summary="Metrics of the gateway for Prometheus",
    response_class=Response,
    responses={200: content("Text exposition format.", {"text/plain": "# HELP safescale_http_seconds ...\n"})},
)
async def get_prometheus_metrics(request: Request, gateway: GatewayOf) -> Response:
    """Every declared series; the gateway fills `safescale_http_seconds`."""
    body, content_type = gateway.config.telemetry.expose(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})

"""The REST application: routes, errors and the description of both."""

from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from safescale import __version__
from safescale.gateway.api import (
    benchmarks,
    compare,
    corpora,
    exports,
    gate,
    metrics,
    models,
    report,
    reviews,
    runs,
    series,
    system,
    verdicts,
)
from safescale.gateway.api.openapi.operations import with_bearer
from safescale.gateway.api.query import PREFIX, described, known_query
from safescale.gateway.context import Gateway
from safescale.gateway.http.middleware import RequestMiddleware, error_response
from safescale.gateway.http.problem import of_framework, validation_error

DESCRIPTION = """Measures whether a clinical language model, as it will be deployed, is safe and not only accurate.

The gateway puts REST before the four gRPC services and owns nothing. Errors are problem details (RFC 9457) with a
stable `reason`; lists come in pages with a `next_cursor`; sizes over a limit are answered 413."""

TAGS = [
    {"name": "benchmarks", "description": "Questions with their truth and safety labels."},
    {"name": "corpora", "description": "Documents that retrieval searches."},
    {"name": "models", "description": "The catalog."},
    {"name": "runs", "description": "Measurements: plan, create, follow, cancel, retry."},
    {"name": "results", "description": "Verdicts, metrics, report, gate and exports of a run."},
    {"name": "reviews", "description": "Answers that a person should read."},
    {"name": "system", "description": "Health and Prometheus metrics."},
]


def create_app(gateway: Gateway) -> FastAPI:
    """Return the application on a gateway."""
    app = FastAPI(
        title="SaFE-Scale",
        version=__version__,
        summary="Safety of clinical language models, over REST",
        description=DESCRIPTION,
        openapi_url=f"{PREFIX}/openapi.json",
        openapi_tags=TAGS,
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(known_query)],
    )
    app.state.gateway = gateway
    for module in (
        benchmarks,
        corpora,
        models,
        runs,
        verdicts,
        metrics,
        report,
        gate,
        compare,
        exports,
        reviews,
        series,
        system,
    ):
        app.include_router(module.router)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(RequestMiddleware, config=gateway.config)
    if gateway.config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(gateway.config.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-Id"],
            expose_headers=["Location", "Retry-After", "WWW-Authenticate", "X-Request-Id"],
        )
    # The framework's way to change its description: it keeps what this returns.
    plain = app.openapi
    app.openapi = lambda: app.openapi_schema or with_bearer(plain(), PREFIX)  # type: ignore[method-assign]
    return app


async def _invalid(_: Request, error: Any) -> Response:
    return error_response(validation_error(error))


async def _refused(request: Request, error: Any) -> Response:
    response = of_framework(error)
    if response.status_code == 405:
        # The framework names the methods of one route; a path can have several.
        response.headers["Allow"] = ", ".join(sorted(method.upper() for method in described(request)))
    return response

"""The composition root of the HTTP side."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from sse_starlette.sse import AppStatus
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from shim.config import Config
from shim.context import Context
from shim.errors import ApiError, ClientGoneError
from shim.gate import Gate
from shim.logs import record_of
from shim.openapi import ERRORS, document
from shim.routes import chat, completions, health, models

_CLIENT_GONE = 499  # nobody reads it but the log


def create_app(config: Config) -> FastAPI:
    """Make the app; `app.state.lifecycle` is how its server drains it."""
    # By itself sse-starlette cuts running streams at the first SIGTERM.
    AppStatus.enable_automatic_graceful_drain = False
    context = Context(config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        context.connect()
        yield
        await context.disconnect()

    app = FastAPI(
        title="mlx-grpc",
        version=version("mlx-grpc"),
        lifespan=lifespan,
        middleware=[Middleware(Gate, lifecycle=context.lifecycle)],
        exception_handlers={
            ApiError: _api_error,
            ClientGoneError: _client_gone,
            HTTPException: _http_error,
        },
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.lifecycle = context.lifecycle
    for resource in (chat, completions, models):
        app.include_router(resource.router(context), responses=ERRORS)
    app.include_router(health.router(context))
    app.openapi = partial(document, app)  # type: ignore[method-assign]  # the way that FastAPI documents
    return app


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - Starlette's type of handlers is wider than what they get
    record_of(request).error = error.message
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    message = f"{error.detail}: {request.method} {request.url.path}"
    return await _api_error(request, ApiError(error.status_code, message, headers=error.headers))


async def _client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)

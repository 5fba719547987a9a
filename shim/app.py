"""The composition root of the HTTP side."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from sse_starlette.sse import AppStatus
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

from shim.config import Config
from shim.context import Context
from shim.cors import Cors
from shim.errors import ApiError, ClientGoneError
from shim.gate import Gate
from shim.logs import CLIENT_GONE, record_of
from shim.methods import Methods
from shim.openapi import ERRORS, document
from shim.recorder import Recorder
from shim.routes import chat, completions, health, models, typed_chat

_GZIP_MIN_BYTES = 1024
_GZIP_LEVEL = 4


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

    routers = [resource.router(context) for resource in (chat, completions, models, typed_chat)]
    unlike_openai = health.router(context)
    routes = [route for router in (*routers, unlike_openai) for route in router.routes if isinstance(route, Route)]
    app = FastAPI(
        title="mlx-grpc",
        version=version("mlx-grpc"),
        lifespan=lifespan,
        middleware=_middleware(context, routes),
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
    for router in routers:
        app.include_router(router, responses=ERRORS)
    app.include_router(unlike_openai)
    routes += [route for route in app.routes if isinstance(route, Route)]
    app.openapi = partial(document, app)  # type: ignore[method-assign]  # the way that FastAPI documents
    return app


def _middleware(context: Context, routes: Sequence[Route]) -> list[Middleware]:
    """The layers, outermost first."""
    config = context.config
    return [
        Middleware(Recorder),
        *([Middleware(Cors, origins=config.cors_origins)] if config.cors_origins else []),
        Middleware(Gate, lifecycle=context.lifecycle),
        # It leaves server-sent events as they are.
        *([Middleware(GZipMiddleware, _GZIP_MIN_BYTES, _GZIP_LEVEL)] if config.gzip else []),
        Middleware(Methods, routes=routes),
    ]


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - Starlette's type of handlers is wider than what they get
    record_of(request).error = error.message
    return error.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    message = f"{error.detail}: {request.method} {request.url.path}"
    return await _api_error(request, ApiError(error.status_code, message, headers=error.headers))


async def _client_gone(request: Request, _: Exception) -> Response:
    record_of(request).leave()
    return Response(status_code=CLIENT_GONE)

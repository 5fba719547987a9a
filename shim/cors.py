"""Lets the pages of configured origins call the shim from a browser."""

from collections.abc import Collection
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from shim.errors import ApiError
from shim.recorder import REQUEST_ID


class Cors(CORSMiddleware):
    """Starlette's, without credentials, that refuses in OpenAI's form."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "OPTIONS", "POST"),
            allow_headers=("*",),
            expose_headers=(REQUEST_ID, "retry-after"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer what a browser asks before the request itself."""
        response = super().preflight_response(request_headers)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        told = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return ApiError(response.status_code, bytes(response.body).decode(), headers=told).response()

"""What can be done with each path: OPTIONS tells it, HEAD is a GET without its body, all else is refused."""

from collections.abc import Sequence
from http import HTTPStatus

from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from shim.errors import ApiError
from shim.logs import record_in


class Methods:
    """ASGI middleware that knows the methods of all routes."""

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse by the method; what is served, and paths that no route has, are passed on."""
        allowed = self._allowed(scope) if scope["type"] == "http" else set()
        method = scope.get("method")
        if not allowed or (method in allowed and method not in ("HEAD", "OPTIONS")):
            await self._app(scope, receive, send)
        elif method == "OPTIONS":
            await Response(status_code=HTTPStatus.NO_CONTENT, headers=_allow(allowed))(scope, receive, send)
        elif method == "HEAD" and "GET" in allowed:
            # The server leaves out the body, by its own copy of the scope.
            await self._app({**scope, "method": "GET"}, receive, send)
        else:
            refusal = ApiError(
                HTTPStatus.METHOD_NOT_ALLOWED, f"Method Not Allowed: {method} {scope['path']}", headers=_allow(allowed)
            )
            record_in(scope).error = refusal.message
            await refusal.response()(scope, receive, send)

    def _allowed(self, scope: Scope) -> set[str]:
        """The methods of a path, none where no route has it."""
        found = {
            method
            for route in self._routes
            if route.matches(scope)[0] is not Match.NONE
            for method in route.methods or ()
        }
        if "GET" in found:
            found.add("HEAD")
        return found | {"OPTIONS"} if found else found


def _allow(allowed: set[str]) -> dict[str, str]:
    return {"allow": ", ".join(sorted(allowed))}

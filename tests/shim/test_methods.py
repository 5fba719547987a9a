"""Every route with every method."""

import httpx
import pytest

from tests.shim.fakes import FakeService

GET = "GET, HEAD, OPTIONS"
POST = "OPTIONS, POST"
ROUTES = {
    "/health": GET,
    "/openapi.json": GET,
    "/v1/models": GET,
    "/v1/models/org/big": GET,
    "/v1/chat/completions": POST,
    "/v1/completions": POST,
    "/api/chat/completions": POST,
}


@pytest.mark.parametrize(("path", "allowed"), ROUTES.items())
async def test_options_tell_what_is_served(http: httpx.AsyncClient, path: str, allowed: str) -> None:
    """Each route tells its methods, without a body and without being run."""
    response = await http.options(path)
    assert (response.status_code, response.headers["allow"], response.content) == (204, allowed, b"")


@pytest.mark.parametrize("path", [path for path, allowed in ROUTES.items() if allowed == GET])
async def test_head_is_a_get_without_its_body(http: httpx.AsyncClient, path: str) -> None:
    """Status and headers are those of the GET, and the connection goes on."""
    identity = {"accept-encoding": "identity"}
    got, head = await http.get(path, headers=identity), await http.head(path, headers=identity)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))
    assert (await http.get(path)).status_code == got.status_code


async def test_head_of_what_is_not_there(http: httpx.AsyncClient) -> None:
    """An error has its status here too."""
    for path in ("/v1/models/none", "/nope"):
        head = await http.head(path)
        assert (head.status_code, head.content) == (404, b"")


@pytest.mark.parametrize(("path", "allowed"), ROUTES.items())
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "SEARCH"])
async def test_any_other_method_is_refused(
    http: httpx.AsyncClient, service: FakeService, path: str, allowed: str, method: str
) -> None:
    """It is a 405 that tells what is served, in OpenAI's form."""
    if method in allowed:
        return
    response = await http.request(method, path, content=b"{")
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.headers["x-request-id"]
    if method != "HEAD":
        assert response.json()["error"] == {
            "message": f"Method Not Allowed: {method} {path}", "type": "invalid_request_error", "param": None,
            "code": None,
        }  # fmt: skip
    assert service.requests == []


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", ["/nope", "/v1", "/v1/chat/completions/", "/"])
async def test_an_unknown_path_is_not_found(http: httpx.AsyncClient, method: str, path: str) -> None:
    """Whatever the method."""
    response = await http.request(method, path)
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "invalid_request_error"

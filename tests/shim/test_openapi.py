"""The OpenAPI document, held against what is really read and answered."""

import copy
import json
from importlib.metadata import version
from typing import Any

import grpc
import httpx
import pytest
from jsonschema import Draft202012Validator

from mlx_grpc.v1 import generation_pb2 as wire
from mlx_grpc.v1.models_pb2 import MODEL_STATE_FAILED
from tests.shim.fakes import (
    Failure,
    FakeService,
    Shim,
    Step,
    completed,
    finish,
    reasoning,
    reasoning_done,
    started,
    text,
    token,
    tool_call,
)

Json = dict[str, Any]
CHAT: Json = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
TEXT: Json = {"model": "tiny", "prompt": "x"}
CHAT_PATH, TEXT_PATH, TYPED_PATH = "/v1/chat/completions", "/v1/completions", "/api/chat/completions"
LIKELY = token(b"Hi", -0.5, {b"Hi": -0.5, b"\xff": -1.0})
ANSWER: list[Step] = [
    started(),
    reasoning("hm"),
    reasoning_done(0.5),
    text("Hi", logprobs=[token(b"Hi", None), LIKELY]),
    tool_call('{"a"', "f", "c0"),
    tool_call(": 1}"),
    finish(wire.FINISH_REASON_TOOL_CALLS),
    completed(),
]


@pytest.fixture
async def document(http: httpx.AsyncClient) -> Json:
    document: Json = (await http.get("/openapi.json")).json()
    return document


def closed(schema: Any) -> Any:
    """Allow no property that a schema does not name, so that what is answered and not described is found."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    return {"additionalProperties": False, **made} if isinstance(made.get("properties"), dict) else made


def check(document: Json, schema: Json, value: object, *, strict: bool) -> None:
    components = closed(document["components"]) if strict else document["components"]
    Draft202012Validator({**schema, "components": components}).validate(value)


def described(document: Json, path: str, response: httpx.Response) -> Json:
    """Find the schema of a response: by its status, or the class of it, and its type."""
    operation = document["paths"][path][response.request.method.lower()]
    status = str(response.status_code)
    answers = operation["responses"]
    answer = answers.get(status) or answers[f"{status[0]}XX"]
    kind = response.headers["content-type"].partition(";")[0]
    schema: Json = answer["content"][kind]["schema"]
    return schema


async def test_the_document_is_openapi(document: Json) -> None:
    """Every reference leads somewhere, every schema is one, and FastAPI's own 422 is nowhere."""
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == version("mlx-grpc")
    for name, schema in document["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert name
    references = {part.split('"')[0] for part in json.dumps(document).split('"$ref": "')[1:]}
    names = {reference.removeprefix("#/components/schemas/") for reference in references}
    assert names <= document["components"]["schemas"].keys()
    assert "422" not in json.dumps(document)
    assert "ValidationError" not in json.dumps(document)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT_PATH, CHAT),
        (CHAT_PATH, CHAT | {"logprobs": True, "top_logprobs": 2, "service_tier": "auto"}),
        (TEXT_PATH, TEXT),
        (TEXT_PATH, TEXT | {"prompt": ["a", "b"], "logprobs": 2, "echo": True}),
    ],
)
async def test_whole_answers_are_as_described(
    http: httpx.AsyncClient, service: FakeService, document: Json, path: str, body: Json
) -> None:
    """They have what the document says, and nothing else."""
    service.script = ANSWER if path == CHAT_PATH else [started(), ANSWER[3], finish(), completed()]
    response = await http.post(path, json=body)
    assert response.status_code == 200
    check(document, described(document, path, response), response.json(), strict=True)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT_PATH, CHAT | {"logprobs": True, "stream_options": {"include_usage": True}}),
        (TEXT_PATH, TEXT | {"logprobs": 2, "stream_options": {"include_usage": True}}),
        (TYPED_PATH, CHAT),
    ],
)
async def test_each_event_is_as_described(
    http: httpx.AsyncClient, service: FakeService, document: Json, path: str, body: Json, fails: bool
) -> None:
    """Chunks, usage and errors of a stream are told apart by their fields."""
    service.script = ANSWER if path != TEXT_PATH else [started(), ANSWER[3], finish(), completed()]
    if fails:
        service.script = [*service.script[:-1], Failure(grpc.StatusCode.UNAVAILABLE)]
    response = await http.post(path, json=body | {"stream": True})
    data = described(document, path, response)["properties"]["data"]
    *others, in_json = data.get("anyOf", [data])
    events = [event.removeprefix("data: ") for event in response.text.strip().split("\n\n")]
    for event in events:
        if event == "[DONE]":
            assert event in others[0]["enum"]
        else:
            check(document, in_json["contentSchema"], json.loads(event), strict=True)
    assert len(events) >= 2


@pytest.mark.parametrize(
    ("method", "path", "url"),
    [
        ("GET", "/v1/models", "/v1/models"),
        ("GET", "/v1/models/{model}", "/v1/models/org/big"),
        ("GET", "/v1/models/{model}", "/v1/models/none"),
        ("GET", "/health", "/health"),
        ("POST", CHAT_PATH, CHAT_PATH),
        ("POST", TEXT_PATH, TEXT_PATH),
        ("POST", TYPED_PATH, TYPED_PATH),
    ],
)
@pytest.mark.parametrize("fails", [None, "service", "draining"])
async def test_every_route_answers_and_fails_as_described(
    http: httpx.AsyncClient,
    service: FakeService,
    shim: Shim,
    document: Json,
    method: str,
    path: str,
    url: str,
    fails: str | None,
) -> None:
    """Refusals of bodies, failures of the service and a shim that drains all have their schema."""
    if fails == "service":
        service.failure = Failure(grpc.StatusCode.UNAVAILABLE)
        service.script = [service.failure]
    elif fails == "draining":
        shim.drain()
    body = CHAT | TEXT if fails and path != TYPED_PATH else {}
    response = await http.request(method, url, json=body if method == "POST" else None)
    assert (response.status_code >= 400) == bool(fails or method == "POST" or url.endswith("none"))
    check(document, described(document, path, response), response.json(), strict=True)


async def test_a_service_without_a_ready_model_is_as_described(
    http: httpx.AsyncClient, service: FakeService, document: Json
) -> None:
    """The health check's own 503 tells why."""
    for model in service.models:
        model.state = MODEL_STATE_FAILED
    response = await http.get("/health")
    assert response.status_code == 503
    check(document, described(document, "/health", response), response.json(), strict=True)


ACCEPTED: list[tuple[str, Json]] = [
    (CHAT_PATH, CHAT),
    (CHAT_PATH, CHAT | {"surprise": 1, "metadata": {"a": "b"}, "store": True, "user": None, "stream": None}),
    (CHAT_PATH, {"model": "tiny", "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "a"}], "name": "n"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "audio": None},
        {"role": "tool", "content": "5", "tool_call_id": "c"},
    ]}),
    (CHAT_PATH, CHAT | {"stop": "x", "logit_bias": {"5": -100}, "seed": -(2**63), "temperature": 0, "n": 2}),
    (CHAT_PATH, CHAT | {"stop": ["a", "b", "c", "d"], "stream": True, "stream_options": {"include_usage": True}}),
    (CHAT_PATH, CHAT | {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}),
    (CHAT_PATH, CHAT | {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
                        "tool_choice": {"type": "function", "function": {"name": "f"}}}),
    (CHAT_PATH, CHAT | {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}}),
    (CHAT_PATH, CHAT | {"guided_json": "{}"}),
    (CHAT_PATH, CHAT | {"structured_outputs": {"json": {}}, "reasoning": {"effort": "low", "max_tokens": 5}}),
    (TEXT_PATH, TEXT),
    *((TEXT_PATH, TEXT | {"prompt": prompt}) for prompt in ("a", ["a", "b"], [1, 2], [[1], [2]])),
    (TEXT_PATH, TEXT | {"echo": True, "max_tokens": 0, "logprobs": 5, "best_of": 1, "suffix": None, "regex": "a"}),
    (TYPED_PATH, CHAT | {"stream": False, "temperature": 0.5}),
    (CHAT_PATH, CHAT | {"max_tokens": 2.0, "n": 1.0, "seed": 1e3, "stop_token_ids": [5.0]}),
    (CHAT_PATH, CHAT | {"messages": [{"role": "assistant", "reasoning": "hm"}]}),
    (CHAT_PATH, CHAT | {"messages": [{"role": "assistant", "content": None, "refusal": "no"}]}),
    (CHAT_PATH, CHAT | {"response_format": {"type": "choice", "choice": ["a"]}, "verbosity": "medium", "echo": False}),
    (TEXT_PATH, TEXT | {"prompt": [[5.0, 6]], "length_penalty": 1, "logit_bias": {"0": 1}}),
    (TYPED_PATH, CHAT | {"n": 1, "logprobs": False, "tools": [], "tool_choice": "auto", "top_logprobs": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), ACCEPTED)
async def test_what_is_read_validates(http: httpx.AsyncClient, document: Json, path: str, body: Json) -> None:
    """A body that is answered is one that the document allows."""
    assert (await http.post(path, json=body)).status_code == 200
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    check(document, content["schema"], body, strict=False)


REFUSED: list[tuple[str, Json]] = [
    (CHAT_PATH, {"model": "tiny"}),
    (CHAT_PATH, CHAT | {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
    (CHAT_PATH, CHAT | {"messages": [{"role": "function", "content": "a", "name": "f"}]}),
    (CHAT_PATH, CHAT | {"stop": list("abcde")}),
    (CHAT_PATH, CHAT | {"tool_choice": "maybe"}),
    (CHAT_PATH, CHAT | {"tool_choice": {"type": "function"}}),
    (CHAT_PATH, CHAT | {"response_format": {"type": "xml"}}),
    (CHAT_PATH, CHAT | {"seed": 2**63}),
    (CHAT_PATH, CHAT | {"model": ""}),
    (TEXT_PATH, TEXT | {"prompt": None}),
    (TEXT_PATH, TEXT | {"prompt": ["a", 5]}),
    (TEXT_PATH, TEXT | {"logprobs": True}),
    *((CHAT_PATH, CHAT | {"messages": [{"role": role, "content": None}]}) for role in ("developer", "user", "tool")),
    (CHAT_PATH, CHAT | {"messages": [{"role": "user", "content": []}]}),
    (CHAT_PATH, CHAT | {"messages": [{"role": "user"}]}),
    (CHAT_PATH, CHAT | {"top_logprobs": 2}),
    (CHAT_PATH, CHAT | {"stream_options": {"include_usage": True}}),
    (CHAT_PATH, CHAT | {"response_format": {"type": "regex"}}),
    (CHAT_PATH, CHAT | {"response_format": {"type": "json_object", "json_schema": {"schema": {}}}}),
    (CHAT_PATH, CHAT | {"functions": [], "skip_special_tokens": 1}),
    (CHAT_PATH, CHAT | {"verbosity": "low"}),
    (CHAT_PATH, CHAT | {"seed": -(2**63) - 1}),
    (CHAT_PATH, CHAT | {"stop_token_ids": [5] * 1025}),
    (TEXT_PATH, TEXT | {"logit_bias": {"05": 1}}),
    (TEXT_PATH, TEXT | {"prompt": ["a"] * 129}),
    (TYPED_PATH, CHAT | {"n": 2}),
    (TYPED_PATH, CHAT | {"tools": [{"type": "function", "function": {"name": "f"}}]}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), REFUSED)
async def test_what_is_refused_for_its_form_does_not_validate(
    http: httpx.AsyncClient, document: Json, path: str, body: Json
) -> None:
    """Who keeps to the document is not surprised."""
    assert (await http.post(path, json=body)).status_code == 400
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": copy.deepcopy(document["components"])})
    assert not validator.is_valid(body)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []}, {"n": 0}, {"n": 129}, {"temperature": 2.1}, {"temperature": -0.1}, {"top_p": 0},
        {"top_p": 1.1}, {"min_p": -0.1},
        {"top_k": -1}, {"repetition_penalty": 0}, {"frequency_penalty": 2.1}, {"presence_penalty": -2.1},
        {"logit_bias": {"5": 101}}, {"max_tokens": 0}, {"max_completion_tokens": 0}, {"min_tokens": -1}, {"stop": ""},
        {"stop": ["x" * 257]}, {"stop_token_ids": [-1]}, {"prompt_cache_key": "x" * 257}, {"guided_choice": []},
        {"guided_choice": [""]}, {"regex": ""}, {"logprobs": True, "top_logprobs": 21}, {"reasoning_effort": "some"},
        {"thinking_budget": -1}, {"reasoning": {"max_tokens": -1}}, {"tool_choice": "required"},
        {"tools": [{"type": "function", "function": {"name": "a b"}}]}, {"messages": [{"role": "assistant"}]},
        {"messages": [{"role": "assistant", "content": [], "refusal": "", "tool_calls": [], "reasoning": ""}]},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_service_refuses_does_not_validate(document: Json, body: Json) -> None:
    """The document tells the ranges too; that they are the service's is for schemathesis to find."""
    schema = document["paths"][CHAT_PATH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    assert validator.is_valid(CHAT)
    assert not validator.is_valid(CHAT | body)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT_PATH, {"n", "logprobs", "user", "prompt_cache_key", "priority", "tools", "response_format", "reasoning"}),
        (TEXT_PATH, {"n", "logprobs", "user", "prompt_cache_key", "priority", "echo", "guided_json"}),
    ],
)
async def test_the_document_describes_the_fields(document: Json, path: str, fields: set[str]) -> None:
    """Every field that is read is in the document, and none of these has to be there."""
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert fields <= schema["properties"].keys()
    assert not fields & set(schema["required"])

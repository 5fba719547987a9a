"""Messages of all roles."""

from typing import Any

import pytest

from mlx_grpc.v1 import generation_pb2 as wire
from shim import conversation
from shim.errors import ApiError
from shim.reading import read
from shim.schemas import ChatRequest

Json = dict[str, Any]


def message(**fields: object) -> wire.ChatMessage:
    request = read(ChatRequest, {"model": "tiny", "messages": [fields]})
    return conversation.to_wire(request.messages)[0]


@pytest.mark.parametrize(
    ("role", "value"),
    [
        ("system", wire.ROLE_SYSTEM),
        ("developer", wire.ROLE_DEVELOPER),
        ("user", wire.ROLE_USER),
        ("assistant", wire.ROLE_ASSISTANT),
        ("tool", wire.ROLE_TOOL),
    ],
)
@pytest.mark.parametrize("content", ["ab", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]])
def test_every_role_may_speak_in_a_string_or_in_parts(role: str, value: Any, content: object) -> None:
    """Both arrive, with the name of who speaks."""
    made = message(role=role, content=content, name="n")
    assert (made.role, made.name) == (value, "n")
    assert "".join(part.text for part in made.content) == "ab"


def test_an_answer_may_come_back_as_it_was_given() -> None:
    """The message of our own answer, with its nulls and its reasoning, is a message of the next request."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    given: Json = {
        "role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None, "function_call": None,
        "tool_calls": [call], "reasoning_content": "hm",
    }  # fmt: skip
    calls = [wire.ToolCall(id="c1", name="f", arguments="{}")]
    assert message(**given) == wire.ChatMessage(role=wire.ROLE_ASSISTANT, tool_calls=calls, reasoning="hm")


@pytest.mark.parametrize(
    "fields", [{"refusal": "no"}, {"content": [{"type": "refusal", "refusal": "no"}]}, {"content": "no"}], ids=str
)
def test_a_refusal_is_what_the_assistant_said(fields: Json) -> None:
    """As a field and as a part it is text like any other."""
    assert message(role="assistant", **fields).content == [wire.ContentPart(text="no")]


def test_reasoning_has_two_names() -> None:
    """Other servers call it reasoning."""
    assert message(role="assistant", content="a", reasoning="hm").reasoning == "hm"


def test_a_tools_result_may_have_parts() -> None:
    """It keeps the id of its call."""
    made = message(role="tool", tool_call_id="c1", content=[{"type": "text", "text": "5"}])
    assert made == wire.ChatMessage(role=wire.ROLE_TOOL, content=[wire.ContentPart(text="5")], tool_call_id="c1")


def part(**fields: object) -> Json:
    return {"role": "user", "content": [{"type": "text", "text": "a"}, fields]}


@pytest.mark.parametrize(
    ("fields", "param", "word"),
    [
        (part(type="image_url", image_url={"url": "data:"}), "messages[0].content[1].type", "image_url"),
        (part(type="input_audio", input_audio={}), "messages[0].content[1].type", "input_audio"),
        (part(type="file", file={}), "messages[0].content[1].type", "file"),
        (part(type="video"), "messages[0].content[1].type", "text"),
        (part(type="refusal"), "messages[0].content[1].type", "text"),
        (part(text="a"), "messages[0].content[1].type", "required"),
        ({"role": "user", "content": ["a"]}, "messages[0].content[0]", ""),
        ({"role": "function", "content": "5", "name": "f"}, "messages[0].role", "tool"),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, "messages[0].function_call", ""),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[0].audio", "not supported"),
        ({"role": "user", "content": "a", "name": 5}, "messages[0].name", ""),
        ({"role": "user", "content": None}, "messages[0].content", "string"),
        ({"role": "tool", "content": []}, "messages[0].content", "empty"),
        ({"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}, "messages[0].content[0].type", "text"),
        ({"role": ["user"], "content": "a"}, "messages[0].role", "assistant"),
        ({"content": "a"}, "messages[0].role", "required"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]},
         "messages[0].tool_calls[0].type", ""),
        ({"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{}"}}]},
         "messages[0].tool_calls[0].id", "required"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}]},
         "messages[0].tool_calls[0].function.arguments", ""),
    ],
    ids=str,
)  # fmt: skip
def test_what_nothing_serves_is_refused_where_it_stands(fields: Json, param: str, word: str) -> None:
    """Images, sound, files, and what is deprecated are named by their place."""
    with pytest.raises(ApiError) as refused:
        message(**fields)
    error = refused.value.body["error"]
    assert (refused.value.status, error["param"]) == (400, param)
    assert word in error["message"]

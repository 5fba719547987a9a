"""TokenizerService over a real channel."""

import json
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from grpc import aio

from mlx_grpc.v1 import tokenizer_pb2 as pb
from mlx_grpc.v1 import tokenizer_pb2_grpc
from service.types import MAX_DETOKENIZED
from tests import tiny
from tests.calls import answer, beside, chat_request, refused
from tests.conftest import StartService

TEXT = "The sky, こんにちは<|im_end|> and </think>"


@pytest.fixture
def stub(channel: aio.Channel) -> Any:
    return tokenizer_pb2_grpc.TokenizerServiceStub(channel)


def render_request(**fields: Any) -> pb.RenderChatRequest:
    return json_format.ParseDict({"model": "talker"} | fields, pb.RenderChatRequest())


async def test_text_goes_to_tokens_and_back(stub: Any) -> None:
    """Special tokens in it are read as such, and shown again."""
    ids = (await stub.Tokenize(pb.TokenizeRequest(model="tiny", text=TEXT))).ids
    assert list(ids) == tiny.tokenizer().encode(TEXT).ids
    assert (await stub.Detokenize(pb.DetokenizeRequest(model="tiny", ids=ids))).text == TEXT


async def test_nothing_is_no_tokens(stub: Any) -> None:
    """In both directions."""
    assert list((await stub.Tokenize(pb.TokenizeRequest())).ids) == []
    assert (await stub.Detokenize(pb.DetokenizeRequest())).text == ""


@pytest.mark.parametrize("number", [-1, 100_000])
async def test_an_id_outside_the_vocabulary_is_refused(stub: Any, number: int) -> None:
    """The place in the list is named."""
    refusal = await refused(stub.Detokenize(pb.DetokenizeRequest(ids=[0, number])))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["ids[1]"])


async def test_a_rendered_chat_is_the_prompt_of_that_chat(stub: Any, channel: aio.Channel) -> None:
    """Text and ids agree, and Chat counts as many tokens."""
    question = next(iter(tiny.DIALOGUES))
    request = chat_request(question)
    rendered = await stub.RenderChat(pb.RenderChatRequest(model="talker", messages=request.messages))
    assert rendered.text == f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    assert list(rendered.ids) == tiny.tokenizer().encode(rendered.text).ids
    assert (await answer(channel, request)).usage.prompt_tokens == len(rendered.ids)


async def test_a_rendered_chat_shows_tools_as_tool_choice_says(stub: Any) -> None:
    """NONE hides them."""
    messages, tools = [{"role": "ROLE_USER", "content": [{"text": "hi"}]}], [{"name": "look"}]
    prompts = [
        (await stub.RenderChat(render_request(messages=messages, **fields))).text
        for fields in ({}, {"tools": tools, "toolChoice": {"mode": "TOOL_CHOICE_MODE_NONE"}}, {"tools": tools})
    ]
    assert prompts[0] == prompts[1]
    assert "look" in prompts[2]


async def test_a_rendered_chat_is_told_how_much_to_think(
    talker_model: Path, tmp_path: Path, start_service: StartService
) -> None:
    """As Chat is; the template's own variables win."""
    switched = shutil.copytree(talker_model, tmp_path / "switched")
    settings = json.loads((switched / "tokenizer_config.json").read_text())
    template = "{{ messages[0].content }}:{{ enable_thinking }}:{{ reasoning_effort }}"
    (switched / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
    process = await start_service({"switched": switched})
    async with aio.insecure_channel(process.address) as channel:
        stub: Any = tokenizer_pb2_grpc.TokenizerServiceStub(channel)
        for fields, text in (
            ({}, "hi::"),
            ({"reasoning": {"effort": "none"}}, "hi:False:low"),
            ({"reasoning": {"effort": "high"}, "chatTemplateKwargs": {"enable_thinking": False}}, "hi:False:high"),
        ):
            asked = chat_request("hi", model="switched", **fields)
            request = pb.RenderChatRequest(
                messages=asked.messages, reasoning=asked.reasoning, chat_template_kwargs=asked.chat_template_kwargs
            )
            assert (await stub.RenderChat(request)).text == text
            asked.stopping.max_tokens = 1
            assert (await answer(channel, asked)).usage.prompt_tokens == len((await stub.RenderChat(request)).ids)


HI = [{"role": "ROLE_USER", "content": [{"text": "hi"}]}]


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({}, grpc.StatusCode.INVALID_ARGUMENT, "messages"),
        ({"messages": [{"content": [{"text": "hi"}]}]}, grpc.StatusCode.INVALID_ARGUMENT, "messages[0].role"),
        (
            {"messages": [{"role": "ROLE_USER", "content": [{"text": "hi"}]}], "tools": [{"name": ""}]},
            grpc.StatusCode.INVALID_ARGUMENT,
            "tools[0].name",
        ),
        ({"messages": HI, "reasoning": {"effort": "much"}}, grpc.StatusCode.INVALID_ARGUMENT, "reasoning.effort"),
        (
            {"messages": HI, "toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED"}},
            grpc.StatusCode.INVALID_ARGUMENT,
            "tool_choice.mode",
        ),
    ],
)
async def test_a_bad_conversation_is_refused(
    stub: Any, fields: dict[str, Any], code: grpc.StatusCode, path: str
) -> None:
    """With the field named, as Chat does."""
    refusal = await refused(stub.RenderChat(render_request(**fields)))
    assert (refusal.code, refusal.fields) == (code, [path])


async def test_unknown_models_are_not_found(stub: Any) -> None:
    """By none of the three."""
    messages = chat_request("hi").messages
    for call in (
        stub.Tokenize(pb.TokenizeRequest(model="nobody")),
        stub.Detokenize(pb.DetokenizeRequest(model="nobody")),
        stub.RenderChat(pb.RenderChatRequest(model="nobody", messages=messages)),
    ):
        assert (await refused(call)).code == grpc.StatusCode.NOT_FOUND


async def test_a_model_without_a_template_renders_nothing(stub: Any) -> None:
    """It says so."""
    refusal = await refused(stub.RenderChat(pb.RenderChatRequest(model="bare", messages=chat_request("hi").messages)))
    assert (refusal.code, refusal.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_CHAT_TEMPLATE")


async def test_a_long_text_holds_nobody_up(stub: Any, channel: aio.Channel) -> None:
    """Others are answered while it is tokenized."""
    request = pb.TokenizeRequest(model="tiny", text="a b c d " * 125_000)
    tokenized, times = await beside(channel, stub.Tokenize(request))
    assert len(tokenized.ids) > 100_000
    assert times.longest_wait < times.took / 2


async def test_too_many_ids_are_refused(stub: Any, channel: aio.Channel) -> None:
    """The field is named, and nobody waits while they are counted."""
    request = pb.DetokenizeRequest(model="tiny", ids=[5] * (MAX_DETOKENIZED + 1))
    refusal, times = await beside(channel, refused(stub.Detokenize(request)))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["ids"])
    assert times.longest_wait < 0.7

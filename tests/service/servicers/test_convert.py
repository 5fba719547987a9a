"""Bad and unserved requests, over a real channel: refused with the field named, and the next request works."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.struct_pb2 import Struct
from grpc import aio

from mlx_grpc.v1 import generation_pb2 as pb
from service.errors import FieldError
from service.servicers.convert import to_ask, to_mapping, to_messages, to_reasoning, to_tool_use, to_tools
from service.types import (
    MAX_JSON,
    MAX_KWARGS,
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_TOOLS,
    Cache,
    Constraint,
    Effort,
    Output,
    Reasoning,
    Role,
    Rule,
    Tool,
    ToolMode,
    ToolUse,
)
from tests.calls import Request, answer, chat_request, refused, text_request

QUESTION, REPLY = "What is two and two?", "Four."
LONG = "x" * 257


def said(**message: Any) -> pb.ChatRequest:
    """Make a request of one message."""
    return chat_request(messages=[message])


def sampled(**sampling: Any) -> pb.GenerateRequest:
    return text_request("hello", sampling=sampling)


def stopped(**stopping: Any) -> pb.GenerateRequest:
    return text_request("hello", stopping=stopping)


def scored(**output: Any) -> pb.GenerateRequest:
    return text_request("hello", output=output)


def called_for(*tools: dict[str, Any], mode: str | int = 0, name: str = "", **fields: Any) -> pb.ChatRequest:
    return chat_request(QUESTION, tools=list(tools), toolChoice={"mode": mode, "functionName": name}, **fields)


def held(constraint: dict[str, Any]) -> pb.GenerateRequest:
    return text_request("hello", constraint=constraint)


BAD_FIELDS: list[tuple[str, Request]] = [
    ("messages", chat_request()),
    ("messages[0].role", said(content=[{"text": "hi"}])),
    ("messages[0].role", said(role=99, content=[{"text": "hi"}])),
    ("messages[0].content", said(role="ROLE_USER")),
    ("messages[0].content", said(role="ROLE_ASSISTANT")),
    ("messages[0].content[1]", said(role="ROLE_USER", content=[{"text": "hi"}, {}])),
    ("messages[0].tool_calls[0].name", said(role="ROLE_ASSISTANT", toolCalls=[{"arguments": "{}"}])),
    (
        "messages[0].tool_calls[0].arguments",
        said(role="ROLE_ASSISTANT", toolCalls=[{"name": "f", "arguments": "[" * (MAX_JSON + 1)}]),
    ),
    ("output.echo", chat_request(QUESTION, output={"echo": True})),
    ("chat_template_kwargs.messages", chat_request(QUESTION, chatTemplateKwargs={"messages": []})),
    ("prompt", text_request()),
    ("text", text_request("")),
    ("token_ids", text_request(tokenIds={"ids": []})),
    ("token_ids.ids[1]", text_request(tokenIds={"ids": [1, -1]})),
    ("token_ids.ids[0]", text_request(tokenIds={"ids": [1 << 30]})),
    ("request_id", text_request("hello", requestId="x" * 129)),
    ("request_id", text_request("hello", requestId="a\nb")),
    ("n", text_request("hello", n=0)),
    ("n", text_request("hello", n=-1)),
    ("n", text_request("hello", n=129)),
    ("cache.salt", text_request("hello", cache={"salt": LONG})),
    ("output.top_logprobs", scored(topLogprobs=1)),
    ("output.top_logprobs", scored(logprobs=True, topLogprobs=21)),
    ("output.top_logprobs", scored(logprobs=True, topLogprobs=-1)),
    ("output.prompt_logprobs", scored(promptLogprobs=21)),
    ("output.prompt_logprobs", scored(promptLogprobs=-1)),
    ("sampling.temperature", sampled(temperature=-0.1)),
    ("sampling.temperature", sampled(temperature=2.1)),
    ("sampling.temperature", sampled(temperature="NaN")),
    ("sampling.temperature", sampled(temperature="Infinity")),
    ("sampling.top_p", sampled(topP=0)),
    ("sampling.top_p", sampled(topP=1.1)),
    ("sampling.top_p", sampled(topP="NaN")),
    ("sampling.top_k", sampled(topK=-1)),
    ("sampling.min_p", sampled(minP=-0.1)),
    ("sampling.min_p", sampled(minP=1.1)),
    ("sampling.repetition_penalty", sampled(repetitionPenalty=0)),
    ("sampling.repetition_penalty", sampled(repetitionPenalty="-Infinity")),
    ("sampling.repetition_penalty", sampled(repetitionPenalty=2.1)),
    ("sampling.frequency_penalty", sampled(frequencyPenalty=-2.1)),
    ("sampling.frequency_penalty", sampled(frequencyPenalty="NaN")),
    ("sampling.presence_penalty", sampled(presencePenalty=2.1)),
    ("sampling.logit_bias[7]", sampled(logitBias={"7": 101})),
    ("sampling.logit_bias[7]", sampled(logitBias={"7": "NaN"})),
    ("sampling.logit_bias[-1]", sampled(logitBias={"-1": 1})),
    ("sampling.logit_bias[100000]", sampled(logitBias={"100000": 1})),
    ("stopping.max_tokens", stopped(maxTokens=-1)),
    ("stopping.max_tokens", stopped(maxTokens=0)),
    ("stopping.min_tokens", stopped(minTokens=-1)),
    ("stopping.min_tokens", stopped(minTokens=2, maxTokens=1)),
    ("stopping.stop", stopped(stop=list("abcdefghijklmnopq"))),
    ("stopping.stop[1]", stopped(stop=["a", ""])),
    ("stopping.stop[0]", stopped(stop=[LONG])),
    ("stopping.stop_token_ids[0]", stopped(stopTokenIds=[-1])),
    ("stopping.stop_token_ids[1]", stopped(stopTokenIds=[0, 100_000])),
    ("stopping.stop_token_ids", stopped(stopTokenIds=[5] * 100_000)),
    ("sampling.logit_bias", sampled(logitBias={str(number): 1 for number in range(20_000)})),
    ("chat_template_kwargs", chat_request(QUESTION, chatTemplateKwargs={"a": [1] * 20_000})),
    ("tools[0].name", called_for({})),
    ("tools[0].name", called_for({"name": "x" * 65})),
    ("tools[0].name", called_for({"name": "a b"})),
    ("tools[1].name", called_for({"name": "f"}, {"name": "f"})),
    ("tools[1].parameters_json", called_for({"name": "f"}, {"name": "g", "parametersJson": "[]"})),
    ("tools[0].parameters_json", called_for({"name": "f", "parametersJson": '{"a": NaN}'})),
    ("tools[0].parameters_json", called_for({"name": "f", "parametersJson": '{"a": 1e999}'})),
    ("tools[0].parameters_json", called_for({"name": "f", "parametersJson": '{"a": "\\ud800"}'})),
    ("tool_choice.mode", called_for(mode="TOOL_CHOICE_MODE_REQUIRED")),
    ("tool_choice.mode", called_for(mode="TOOL_CHOICE_MODE_FUNCTION", name="f")),
    ("tool_choice.mode", called_for({"name": "f"}, mode=9)),
    ("tool_choice.function_name", called_for({"name": "f"}, mode="TOOL_CHOICE_MODE_FUNCTION", name="g")),
    ("tool_choice.function_name", called_for({"name": "f"}, mode="TOOL_CHOICE_MODE_FUNCTION")),
    ("tool_choice.function_name", called_for({"name": "f"}, mode="TOOL_CHOICE_MODE_AUTO", name="f")),
    (
        "constraint",
        called_for({"name": "f"}, mode="TOOL_CHOICE_MODE_REQUIRED", constraint={"jsonObject": True}),
    ),
    ("reasoning.effort", chat_request(QUESTION, reasoning={"effort": "much"})),
    ("reasoning.budget", chat_request(QUESTION, reasoning={"budget": -1})),
    ("constraint.rule", held({})),
    ("constraint.json_object", held({"jsonObject": False})),
    ("constraint.json_schema", held({"jsonSchema": ""})),
    ("constraint.json_schema", held({"jsonSchema": "[]"})),
    ("constraint.json_schema", held({"jsonSchema": '{"type": "string"'})),
    ("constraint.json_schema", held({"jsonSchema": "[" * 10_000})),
    ("constraint.json_schema", held({"jsonSchema": '{"a": "' + "x" * MAX_JSON + '"}'})),
    ("constraint.json_schema", held({"jsonSchema": '{"const": Infinity}'})),
    ("constraint.json_schema", held({"jsonSchema": '{"const": "\\ud800"}'})),
    ("constraint.regex", held({"regex": ""})),
    ("constraint.regex", held({"regex": "x" * 65_537})),
    ("constraint.grammar", held({"grammar": ""})),
    ("constraint.grammar", held({"grammar": "x" * 65_537})),
    ("constraint.choice.options", held({"choice": {}})),
    ("constraint.choice.options", held({"choice": {"options": ["x"] * 4097}})),
    ("constraint.choice.options", held({"choice": {"options": ["x" * 4000] * 70}})),
    ("constraint.choice.options[1]", held({"choice": {"options": ["x", ""]}})),
    ("constraint.choice.options[0]", held({"choice": {"options": ["x" * 4097]}})),
]


@pytest.mark.parametrize(("field", "request_"), BAD_FIELDS, ids=[f"{i}-{f}" for i, (f, _) in enumerate(BAD_FIELDS)])
async def test_a_bad_field_is_named_and_the_next_request_works(
    channel: aio.Channel, field: str, request_: Request
) -> None:
    """Whatever a caller sends costs them their own call only."""
    refusal = await refused(answer(channel, request_))
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert refusal.message.startswith(f"{field} ")
    assert (await answer(channel, chat_request(QUESTION))).text == REPLY


SERVED = {
    *("model", "lora", "request_id", "messages", "chat_template_kwargs", "text", "token_ids", "sampling", "stopping"),
    *("n", "priority", "cache.salt", "cache.bypass", "output.logprobs", "output.top_logprobs"),
    *("output.prompt_logprobs", "output.token_ids", "output.echo", "output.progress", "parallel_tool_calls"),
    *("tools", "tool_choice.mode", "tool_choice.function_name", "reasoning.effort", "reasoning.budget"),
    *(f"constraint.{rule}" for rule in ("json_schema", "json_object", "regex", "grammar", "choice.options")),
}
"""Fields that have an effect; those of sampling, stopping and messages all do."""


def unserved(descriptor: Descriptor, path: str = "") -> Iterator[str]:
    """Name each field of a message that is not of one of the served parts."""
    for field in descriptor.fields:
        name = f"{path}{field.name}"
        message = field.message_type
        if name in SERVED:
            continue
        if message is None or field.is_repeated or message.full_name.startswith("google."):
            yield name
        else:
            yield from unserved(message, f"{name}.")


@pytest.mark.parametrize("message", [pb.ChatRequest, pb.GenerateRequest])
def test_every_field_of_the_schema_is_served(message: type[Request]) -> None:
    """One that is added later has to be enforced, or refused by name, before it is added to those that are."""
    assert list(unserved(message.DESCRIPTOR)) == []


async def test_an_unknown_lora_is_not_found(channel: aio.Channel) -> None:
    """Its name and that of its model are in the details."""
    refusal = await refused(answer(channel, chat_request(QUESTION, lora="mine")))
    assert refusal.code == grpc.StatusCode.NOT_FOUND
    resource: Any = refusal.details["ResourceInfo"]
    assert (resource.resource_type, resource.resource_name, resource.owner) == ("lora", "mine", "talker")
    assert (await answer(channel, chat_request(QUESTION))).text == REPLY


def test_fields_at_their_neutral_values_are_taken() -> None:
    """A client that spells defaults out is no worse off."""
    ask = to_ask(text_request("hello", n=1, priority=0, sampling={"topK": 1 << 30, "temperature": 2, "topP": 1}))
    assert (ask.sampling.top_k, ask.sampling.temperature, ask.sampling.top_p) == (1 << 30, 2, 1)
    assert (ask.stopping.max_tokens, ask.sampling.seed, ask.sampling.min_p) == (None, None, None)


def test_what_is_asked_for_beside_the_text_arrives() -> None:
    """Number, rank and cache of a request, and all that its output may have."""
    output = {
        "logprobs": True,
        "topLogprobs": 20,
        "promptLogprobs": 0,
        "tokenIds": True,
        "echo": True,
        "progress": True,
    }
    cache = {"salt": "x" * 256, "bypass": True}
    ask = to_ask(text_request("hello", n=128, priority=-(1 << 31), cache=cache, output=output))
    assert (ask.n, ask.priority, ask.cache) == (128, -(1 << 31), Cache("x" * 256, bypass=True))
    assert ask.output == Output(
        logprobs=True, top_logprobs=20, prompt_logprobs=0, token_ids=True, echo=True, progress=True
    )


def test_what_is_not_asked_for_is_not_there() -> None:
    """No alternatives of the prompt are not the same as none at all."""
    ask = to_ask(text_request("hello", output={"topLogprobs": 0}))
    assert (ask.n, ask.priority, ask.cache, ask.output) == (1, 0, Cache(), Output())


def test_zero_and_absent_differ() -> None:
    """Temperature 0 is greedy and seed 0 a seed; absent ones are the model's business."""
    ask = to_ask(text_request("hello", sampling={"temperature": 0, "seed": 0, "topK": 0}))
    assert (ask.sampling.temperature, ask.sampling.seed, ask.sampling.top_k) == (0, 0, 0)


def test_a_message_keeps_all_that_it_says() -> None:
    """Parts are joined, and roles, names, calls and reasoning arrive."""
    request = said(
        role="ROLE_ASSISTANT",
        content=[{"text": "a"}, {"text": "b"}],
        name="me",
        reasoning="why",
        toolCalls=[{"id": "1", "name": "f", "arguments": '{"x": 1}'}, {"name": "g"}],
    )
    [message] = to_messages(request.messages)
    assert (message.role, message.content, message.name, message.reasoning) == (Role.ASSISTANT, "ab", "me", "why")
    assert [(call.id, call.name, call.arguments) for call in message.tool_calls] == [
        ("1", "f", '{"x": 1}'),
        ("", "g", "{}"),
    ]


def test_an_empty_text_is_content() -> None:
    """A user may say nothing; a message without any part is a mistake."""
    [message] = to_messages(said(role="ROLE_USER", content=[{"text": ""}]).messages)
    assert message.content == ""


def test_tools_need_a_name_and_an_object() -> None:
    """Their schemas are checked before a template sees them."""
    assert to_tools([pb.Tool(name="f")], pb.ToolChoice()).tools[0].parameters == ""
    for tool, field in (
        (pb.Tool(), "tools[0].name"),
        (pb.Tool(name="f", parameters_json="[1]"), "tools[0].parameters_json"),
    ):
        with pytest.raises(FieldError) as raised:
            to_tools([tool], pb.ToolChoice())
        assert raised.value.field == field


def test_template_variables_are_plain_values() -> None:
    """Whole numbers come out as integers, since templates print them."""
    values = {"a": 1, "b": 0.5, "c": None, "d": [True, "x"], "e": {"f": 2}}
    mapping = to_mapping(json_format.ParseDict(values, Struct()))
    assert mapping == values
    assert isinstance(mapping["a"], int)


def said_often(messages: int, parts: int = 1) -> list[pb.ChatMessage]:
    """Make messages of that many parts each."""
    message = pb.ChatMessage(role=pb.ROLE_USER, content=[pb.ContentPart(text="")] * parts)
    return [message] * messages


def called(count: int) -> list[pb.ChatMessage]:
    """Make a message with that many tool calls."""
    return [pb.ChatMessage(role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(name="f")] * count)]


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (said_often(MAX_MESSAGES), said_often(MAX_MESSAGES + 1)),
        (said_often(1, MAX_PARTS), said_often(1, MAX_PARTS + 1)),
        (said_often(MAX_MESSAGES, MAX_PARTS // MAX_MESSAGES), said_often(MAX_MESSAGES, MAX_PARTS // MAX_MESSAGES + 1)),
        (called(MAX_PARTS), called(MAX_PARTS + 1)),
    ],
    ids=["messages", "parts of one", "parts of all", "calls"],
)
def test_a_conversation_has_bounds(good: list[pb.ChatMessage], bad: list[pb.ChatMessage]) -> None:
    """Its messages, and the parts and calls of all of them together."""
    assert len(to_messages(good)) == len(good)
    with pytest.raises(FieldError) as raised:
        to_messages(bad)
    assert raised.value.field == "messages"


def object_of(characters: int) -> str:
    """Make a JSON object of that length."""
    return json.dumps({"a": "x" * (characters - len(json.dumps({"a": ""})))})


def test_json_texts_have_bounds() -> None:
    """Arguments and schemas that are longer are not read."""
    call = pb.ToolCall(name="f", arguments=object_of(MAX_JSON))
    tool = pb.Tool(name="f", parameters_json=object_of(MAX_JSON))
    message = pb.ChatMessage(role=pb.ROLE_ASSISTANT, tool_calls=[call])
    assert to_messages([message])[0].tool_calls[0].arguments == call.arguments
    assert to_tools([tool], pb.ToolChoice()).tools[0].parameters == tool.parameters_json
    message.tool_calls[0].arguments = tool.parameters_json = object_of(MAX_JSON + 1)
    with pytest.raises(FieldError) as raised:
        to_messages([message])
    assert raised.value.field == "messages[0].tool_calls[0].arguments"
    with pytest.raises(FieldError) as raised:
        to_tools([tool], pb.ToolChoice())
    assert raised.value.field == "tools[0].parameters_json"


@pytest.mark.parametrize("text", ["{", "nope", "[1]", '{"a": NaN}', "[" * 10_000, '"\\ud800"'])
def test_arguments_that_a_model_broke_are_taken_back(text: str) -> None:
    """A client sends back what it got."""
    message = pb.ChatMessage(role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(name="f", arguments=text)])
    assert to_messages([message])[0].tool_calls[0].arguments == text


def test_tools_have_bounds() -> None:
    """Their number."""
    tools = [pb.Tool(name=f"f{place}") for place in range(MAX_TOOLS)]
    assert len(to_tools(tools, pb.ToolChoice()).tools) == MAX_TOOLS
    with pytest.raises(FieldError) as raised:
        to_tools([*tools, pb.Tool(name="f")], pb.ToolChoice())
    assert raised.value.field == "tools"


def test_template_variables_have_bounds() -> None:
    """Their size, however it is made up."""
    for values in ({"a": "x" * MAX_KWARGS}, {"a": [1] * MAX_KWARGS}, {str(number): 1 for number in range(MAX_KWARGS)}):
        with pytest.raises(FieldError) as raised:
            to_mapping(json_format.ParseDict(values, Struct()))
        assert raised.value.field == "chat_template_kwargs"
    assert to_mapping(json_format.ParseDict({"a": "x" * (MAX_KWARGS - 100)}, Struct()))


F, G = Tool("f", "", ""), Tool("g", "", "")


@pytest.mark.parametrize(
    ("fields", "use"),
    [
        ({}, ToolUse()),
        ({"parallelToolCalls": False}, ToolUse(parallel=False)),
        ({"toolChoice": {"mode": "TOOL_CHOICE_MODE_AUTO"}}, ToolUse(mode=ToolMode.AUTO)),
        ({"tools": [{"name": "f"}]}, ToolUse((F,), ToolMode.AUTO)),
        ({"tools": [{"name": "f"}], "toolChoice": {"mode": "TOOL_CHOICE_MODE_NONE"}}, ToolUse((F,), ToolMode.NONE)),
        (
            {"tools": [{"name": "f", "strict": True}], "toolChoice": {"mode": "TOOL_CHOICE_MODE_REQUIRED"}},
            ToolUse((replace(F, strict=True),), ToolMode.REQUIRED),
        ),
        (
            {
                "tools": [{"name": "f"}, {"name": "g"}],
                "toolChoice": {"mode": "TOOL_CHOICE_MODE_FUNCTION", "functionName": "g"},
                "parallelToolCalls": True,
            },
            ToolUse((F, G), ToolMode.FUNCTION, "g"),
        ),
    ],
)
def test_tools_and_their_choice(fields: dict[str, Any], use: ToolUse) -> None:
    """Tools alone may be called, and without any there are no calls."""
    request = chat_request(QUESTION, **fields)
    assert to_tool_use(request, to_ask(request)) == use


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"jsonSchema": '{"type": "object"}'}, Constraint(Rule.JSON_SCHEMA, '{"type": "object"}')),
        ({"jsonSchema": "true"}, Constraint(Rule.JSON_SCHEMA, "true")),
        ({"jsonObject": True}, Constraint(Rule.JSON_OBJECT)),
        ({"regex": "a+"}, Constraint(Rule.REGEX, "a+")),
        ({"grammar": 'start: "a"'}, Constraint(Rule.GRAMMAR, 'start: "a"')),
        ({"choice": {"options": ["a", "b"]}}, Constraint(Rule.CHOICE, options=("a", "b"))),
    ],
)
def test_constraints_of_both_calls(fields: dict[str, Any], constraint: Constraint) -> None:
    """Each rule arrives as it was sent."""
    for request in (chat_request(QUESTION, constraint=fields), held(fields)):
        assert to_ask(request).constraint == constraint


def test_no_reasoning_is_not_a_budget_of_none() -> None:
    """Zero and absent differ."""
    assert to_reasoning(pb.Reasoning()) == Reasoning()
    assert to_reasoning(pb.Reasoning(effort="none", budget=0)) == Reasoning(Effort.NONE, 0)

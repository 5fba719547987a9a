"""The parameters of chat completions and of Chat."""

import json
from collections.abc import Mapping
from typing import Any

from tests.e2e.rows import (
    EXTENSIONS_THAT_ARE_REFUSED,
    TOKENS,
    No,
    Row,
    Rows,
    See,
    as_taught,
    calls_tools,
    counts,
    more_prompt,
    refused,
    same,
)
from tests.e2e.seen import Json
from tests.e2e.shared_parameters import SHARED, free
from tests.taught import ADD, QWEN, SKY_THOUGHT, TOOLS, WEATHER, Lesson, asked, called, result


def _taught(lesson: Lesson, http: Json, wire: Json | None, see: See | No) -> Row:
    """Make a row of a request to `qwen` that asks for a lesson."""
    base: Json = {"model": "qwen", "messages": list(lesson.messages), "max_tokens": 150, "ignore_eos": False}
    base["thinking_budget"] = None
    wired: Json = {
        "model": "qwen",
        "messages": [{"role": "ROLE_USER", "content": [{"text": lesson.messages[0]["content"]}]}],
        "stopping": {"maxTokens": 150, "ignoreEos": False},
    }
    if lesson.tools:
        base["tools"] = list(lesson.tools)
        wired["tools"] = _W_TOOLS
    if wire is not None:
        wired |= wire | {"reasoning": {"budget": None} | wire.get("reasoning", {})}
    return Row(base | http, None if wire is None else wired, see)


def _w_tool(tool: Mapping[str, Any], **changes: Any) -> Json:
    function = tool["function"]
    return {
        "name": function["name"],
        "description": function["description"],
        "parametersJson": json.dumps(function["parameters"]),
    } | changes


_W_TOOLS = [_w_tool(tool) for tool in TOOLS]
_HELLO = QWEN.lessons["no call"]
_BOTH = QWEN.lessons["text and calls"]
_ONE = QWEN.lessons["call"]
_THOUGHT = QWEN.lessons["thought"]


def _function(tool: Mapping[str, Any], **changes: Any) -> Json:
    return {"type": "function", "function": dict(tool["function"]) | changes}


def _chosen(name: str) -> Json:
    return {"tool_choice": {"type": "function", "function": {"name": name}}}


def _mode(mode: str, **more: str) -> Json:
    return {"toolChoice": {"mode": f"TOOL_CHOICE_MODE_{mode}"} | more}


def _says(role: str, **fields: Any) -> Json:
    return {"role": f"ROLE_{role}"} | fields


def _messages(*messages: Json) -> Json:
    return {"messages": list(messages)}


_W_USER = _says("USER", content=[{"text": "Draw."}])
_BRIEFLY = {"thinking_budget": 10}
_W_BRIEFLY = {"reasoning": {"budget": 10}}

CHATS: Rows = SHARED | {
    "messages": (
        Row(
            {"messages": [{"role": "system", "content": "Be."}, asked("Draw.")]},
            _messages(_says("SYSTEM", content=[{"text": "Be."}]), _W_USER),
            more_prompt,
        ),
        Row(
            {"messages": [{"role": "developer", "content": "Be."}, asked("Draw.")]},
            _messages(_says("DEVELOPER", content=[{"text": "Be."}]), _W_USER),
            more_prompt,
        ),
        Row(
            {"messages": [asked("Draw."), {"role": "assistant", "content": "I do."}, asked("Go on.")]},
            _messages(_W_USER, _says("ASSISTANT", content=[{"text": "I do."}]), _W_USER),
            more_prompt,
        ),
        Row({"messages": [asked("Draw.") | {"name": "me"}]}, _messages(_W_USER | {"name": "me"}), same),
        Row(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": part} for part in ("Dr", "aw.")]}]},
            _messages(_says("USER", content=[{"text": "Dr"}, {"text": "aw."}])),
            same,
        ),
        Row(
            {"messages": [asked("Draw."), {"role": "assistant", "content": None, "refusal": "No."}, asked("Go on.")]},
            None,
            more_prompt,
        ),
        Row({"messages": []}, _messages(), No("messages", "messages")),
        Row({"messages": [{"role": "user", "content": None}]}, None, No("messages[0].content")),
        Row({"messages": [{"role": "tool", "content": []}]}, None, No("messages[0].content")),
        Row(
            {"messages": [{"role": "assistant", "content": None}]},
            _messages(_says("ASSISTANT")),
            No("messages[0].content", "messages[0].content"),
        ),
        Row(
            {"messages": [{"role": "wizard", "content": "a"}]},
            _messages({"content": [{"text": "a"}]}),
            No("messages[0].role", "messages[0].role"),
        ),
        Row(
            {"messages": [{"role": "user"}]}, _messages(_says("USER")), No("messages[0].content", "messages[0].content")
        ),
        Row(
            {"messages": [asked("a"), {"role": "user", "content": None}]},
            _messages(_W_USER, _says("USER")),
            No("messages[1].content", "messages[1].content"),
        ),
        Row(
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            _messages(_says("USER", content=[{}])),
            No("messages[0].content[0].type", "messages[0].content[0]"),
        ),
        Row({"messages": [{"role": "function", "content": "a"}]}, None, No("messages[0].role")),
        Row(
            {"messages": [asked("a"), {"role": "assistant", "content": "a", "function_call": {}}]},
            None,
            No("messages[1].function_call"),
        ),
        Row(
            {"messages": [asked("a"), {"role": "assistant", "content": "a", "audio": {}}]},
            None,
            No("messages[1].audio"),
        ),
        Row({"messages": [asked("a"), {"role": "assistant", "refusal": "No."}, asked("b")]}, None, more_prompt),
        Row(
            {
                "messages": [
                    asked("a"),
                    {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
                    asked("b"),
                ]
            },
            None,
            more_prompt,
        ),
    ),
    "tool messages": (
        _taught(
            _HELLO,
            {"messages": list(QWEN.lessons["one result"].messages)},
            _messages(
                _says("USER", content=[{"text": "Paris?"}]),
                _says(
                    "ASSISTANT",
                    reasoning="I must look.",
                    toolCalls=[{"id": "one", "name": "get_weather", "arguments": '{"city": "Paris"}'}],
                ),
                _says("TOOL", toolCallId="one", content=[{"text": "18 degrees"}]),
            ),
            as_taught("one result"),
        ),
        _taught(
            _HELLO,
            {
                "messages": [
                    asked("Paris?"),
                    called(("one", ("get_weather", {"city": "Paris"}))) | {"reasoning": "I must look."},
                    result("one", "18 degrees"),
                ]
            },
            None,
            as_taught("one result"),
        ),
        Row(
            {
                "messages": [
                    asked("a"),
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "one", "type": "function", "function": {"name": "f", "arguments": "["}}],
                    },
                ]
            },
            _messages(_W_USER, _says("ASSISTANT", toolCalls=[{"id": "one", "name": "f", "arguments": "["}])),
            lambda seen, base: (
                seen.one.finish in {"length", "stop"} and not same(seen, base)
            ),  # as the model wrote them
        ),
    ),
    "max_completion_tokens": (
        Row({"max_completion_tokens": 3}, None, counts(3)),
        Row({"max_completion_tokens": 3, "max_tokens": 3}, None, counts(3)),
        Row({"max_completion_tokens": -1}, None, No("max_completion_tokens")),
    ),
    "logprobs": (
        Row(
            {"logprobs": True, "top_logprobs": 2},
            {"output": {"logprobs": True, "topLogprobs": 2}},
            lambda seen, base: same(seen, base) and all(len(token.top) == 2 for token in seen.one.tokens),
        ),
        Row(
            {"logprobs": True},
            {"output": {"logprobs": True}},
            lambda seen, _: len(seen.one.tokens) == TOKENS and not any(token.top for token in seen.one.tokens),
        ),
        Row(
            {"logprobs": False, "top_logprobs": 0},
            {"output": {"topLogprobs": 0}},
            lambda seen, base: same(seen, base) and not seen.one.tokens,
        ),
        Row({"top_logprobs": 2}, None, No("top_logprobs")),
        *(
            Row(
                {"logprobs": True, "top_logprobs": count},
                {"output": {"logprobs": True, "topLogprobs": count}},
                No("top_logprobs", "output.top_logprobs"),
            )
            for count in (21, -1)
        ),
    ),
    "tools": (
        _taught(_ONE, {}, {}, calls_tools("add")),
        _taught(
            _ONE,
            {"tools": [_function(tool, strict=True) for tool in TOOLS]},
            {"tools": [_w_tool(tool, strict=True) for tool in TOOLS]},
            calls_tools("add"),
        ),
        Row({"tools": []}, {"tools": []}, same),
        Row(
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            {"tools": [{"name": "f"}]},
            more_prompt,
        ),
        Row(
            {"tools": [_function(ADD, name="a b")]},
            {"tools": [_w_tool(ADD, name="a b")]},
            No("tools[0].function.name", "tools[0].name"),
        ),
        Row(
            {"tools": [_function(ADD, name="x" * 65)]},
            {"tools": [_w_tool(ADD, name="x" * 65)]},
            No("tools[0].function.name", "tools[0].name"),
        ),
        Row(
            {"tools": [_function(ADD), _function(ADD)]},
            {"tools": [_w_tool(ADD), _w_tool(ADD)]},
            No("tools[1].function.name", "tools[1].name"),
        ),
        Row(
            {"tools": [_function(WEATHER), _function(ADD, parameters={"type": 5})], "tool_choice": "required"},
            {"tools": [_w_tool(WEATHER), _w_tool(ADD, parametersJson='{"type": 5}')]} | _mode("REQUIRED"),
            No("tools[1].function.parameters", "tools[1].parameters_json"),
        ),
        Row(
            {"tools": [_function(ADD, parameters=[1])]},
            {"tools": [_w_tool(ADD, parametersJson="[1]")]},
            No("tools[0].function.parameters", "tools[0].parameters_json"),
        ),
        Row({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, None, No("tools[0].type")),
    ),
    "tool_choice": (
        _taught(_ONE, {"tool_choice": "auto"}, _mode("AUTO"), calls_tools("add")),
        _taught(_ONE, {"tool_choice": "none"}, _mode("NONE"), calls_tools()),
        _taught(_ONE, {"tool_choice": "required"}, _mode("REQUIRED"), calls_tools("add")),
        _taught(
            _HELLO,
            _chosen("get_weather") | _BRIEFLY,
            _mode("FUNCTION", functionName="get_weather") | _W_BRIEFLY,
            calls_tools("get_weather"),
        ),
        _taught(
            _HELLO,
            _chosen("nobody"),
            _mode("FUNCTION", functionName="nobody"),
            No("tool_choice", "tool_choice.function_name"),
        ),
        _taught(
            _HELLO,
            {"tool_choice": {"type": "function"}},
            _mode("FUNCTION"),
            No("tool_choice.function", "tool_choice.function_name"),
        ),
        _taught(
            _HELLO,
            {"tool_choice": {"type": "allowed_tools"}},
            _mode("AUTO", functionName="add"),
            No("tool_choice", "tool_choice.function_name"),
        ),
        _taught(
            _HELLO,
            {"tool_choice": "required", "response_format": {"type": "json_object"}},
            _mode("REQUIRED") | {"constraint": {"jsonObject": True}},
            No("response_format", "constraint"),
        ),
        Row({"tool_choice": "required"}, _mode("REQUIRED"), No("tool_choice", "tool_choice.mode")),
        Row({"tool_choice": "none"}, _mode("NONE"), same),
        Row({"tool_choice": "auto"}, _mode("AUTO"), same),
        Row({"tool_choice": "perhaps"}, None, No("tool_choice")),
    ),
    "parallel_tool_calls": (
        _taught(
            _BOTH, {"parallel_tool_calls": True}, {"parallelToolCalls": True}, calls_tools("get_weather", "get_weather")
        ),
        _taught(_BOTH, {"parallel_tool_calls": False}, {"parallelToolCalls": False}, calls_tools("get_weather")),
        Row({"parallel_tool_calls": False}, {"parallelToolCalls": False}, same),
    ),
    "reasoning": (
        _taught(_THOUGHT, {"reasoning_effort": "none"}, {"reasoning": {"effort": "none"}}, as_taught("unthought")),
        _taught(_THOUGHT, {"reasoning": {"effort": "none"}}, None, as_taught("unthought")),
        _taught(_THOUGHT, {"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}, as_taught("thought")),
        *(
            _taught(
                _THOUGHT,
                {"reasoning_effort": effort},
                {"reasoning": {"effort": effort}},
                No("reasoning_effort", "reasoning.effort"),
            )
            for effort in ("extreme", "None")
        ),
        _taught(
            _THOUGHT,
            _BRIEFLY | {"thinking_budget": 3},
            {"reasoning": {"budget": 3}},
            lambda seen, _: 0 < len(seen.one.reasoning) < len(SKY_THOUGHT),
        ),
        _taught(
            _THOUGHT,
            {"reasoning": {"max_tokens": 0}},
            {"reasoning": {"budget": 0}},
            lambda seen, _: not seen.one.reasoning,
        ),
        _taught(
            _THOUGHT, {"thinking_budget": -1}, {"reasoning": {"budget": -1}}, No("thinking_budget", "reasoning.budget")
        ),
        _taught(
            _THOUGHT,
            {"thinking_budget": 1, "reasoning": {"max_tokens": 2}},
            None,
            No("reasoning.max_tokens"),
        ),
    ),
    "chat_template_kwargs": (
        _taught(
            _THOUGHT,
            {"chat_template_kwargs": {"enable_thinking": False}},
            {"chatTemplateKwargs": {"enable_thinking": False}},
            as_taught("unthought"),
        ),
        Row({"chat_template_kwargs": {"unknown": [1, {"a": None}]}}, {"chatTemplateKwargs": {"unknown": 1}}, same),
        Row(
            {"chat_template_kwargs": {"messages": []}},
            {"chatTemplateKwargs": {"messages": []}},
            No("chat_template_kwargs", "chat_template_kwargs.messages"),
        ),
        Row({"chat_template_kwargs": 5}, None, No("chat_template_kwargs")),
    ),
    "told only": (
        free("safety_identifier", "someone"),
        free("service_tier", "auto"),
        free("service_tier", "default"),
    ),
    "the prompt": (Row(None, {"output": {"echo": True}}, No("", "output.echo")),),
    **refused(
        EXTENSIONS_THAT_ARE_REFUSED
        | {
            "add_generation_prompt": False,
            "add_special_tokens": True,
            "audio": {"voice": "a"},
            "chat_template": "{{ messages }}",
            "continue_final_message": True,
            "documents": [{"a": "b"}],
            "echo": True,
            "function_call": "auto",
            "functions": [{"name": "f"}],
            "include_reasoning": False,
            "modalities": ["audio"],
            "moderation": {"a": "b"},
            "separate_reasoning": False,
            "verbosity": "low",
            "web_search_options": {},
        }
    ),
}

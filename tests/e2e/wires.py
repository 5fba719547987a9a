"""OpenAI's requests as the wire's JSON, for tests that send the same over both ways."""

import json
from collections.abc import Mapping
from typing import Any

_MODES = {"none": "NONE", "auto": "AUTO", "required": "REQUIRED"}


def chat_json(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the fields that tests of both ways send. Raises KeyError for others, so that none is lost."""
    request: dict[str, Any] = {}
    for name, value in body.items():
        if value is not None:
            _merge(request, _FIELDS[name](value))
    return request


def text_json(body: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a completion request with one prompt, as above."""
    request = chat_json({name: value for name, value in body.items() if name not in _TEXT_ONLY})
    output: dict[str, Any] = {}
    if (count := body.get("logprobs")) is not None:
        output |= {"logprobs": True, "topLogprobs": count}
        output |= {"promptLogprobs": count} if body.get("echo") else {}
    output |= {"echo": True} if body.get("echo") else {}
    prompt = body["prompt"]
    return (
        request | {"output": output} | ({"text": prompt} if isinstance(prompt, str) else {"tokenIds": {"ids": prompt}})
    )


_TEXT_ONLY = {"prompt", "logprobs", "echo", "best_of"}


def _merge(request: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        request[name] = request.get(name, {}) | value if isinstance(value, dict) else value


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    return {
        "role": f"ROLE_{message['role'].upper()}",
        "content": [{"text": part["text"]} for part in parts],
        "name": message.get("name") or "",
        "toolCallId": message.get("tool_call_id") or "",
        "toolCalls": [{"id": call["id"]} | call["function"] for call in message.get("tool_calls") or ()],
        "reasoning": message.get("reasoning_content") or "",
    }


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    parameters = function.get("parameters")
    made = {name: function[name] for name in ("name", "description", "strict") if name in function}
    return made | ({} if parameters is None else {"parametersJson": json.dumps(parameters)})


def _tool_choice(choice: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(choice, str):
        return {"toolChoice": {"mode": f"TOOL_CHOICE_MODE_{_MODES[choice]}"}}
    return {"toolChoice": {"mode": "TOOL_CHOICE_MODE_FUNCTION", "functionName": choice["function"]["name"]}}


def _response_format(form: Mapping[str, Any]) -> dict[str, Any]:
    match form["type"]:
        case "text":
            return {}
        case "json_object":
            return {"constraint": {"jsonObject": True}}
        case "json_schema":
            return {"constraint": {"jsonSchema": json.dumps(form["json_schema"]["schema"])}}
        case "choice":
            return {"constraint": {"choice": {"options": form["choice"]}}}
        case kind:
            return {"constraint": {kind: form[kind]}}


def _in(part: str, name: str) -> Any:
    return lambda value: {part: {name: value}}


_FIELDS: Mapping[str, Any] = {
    "model": lambda value: {"model": value},
    "n": lambda value: {"n": value},
    "priority": lambda value: {"priority": value},
    "messages": lambda value: {"messages": [_message(each) for each in value]},
    "tools": lambda value: {"tools": [_tool(each) for each in value]},
    "tool_choice": _tool_choice,
    "parallel_tool_calls": lambda value: {"parallelToolCalls": value},
    "reasoning_effort": _in("reasoning", "effort"),
    "thinking_budget": _in("reasoning", "budget"),
    "chat_template_kwargs": lambda value: {"chatTemplateKwargs": value},
    "response_format": _response_format,
    "guided_json": lambda value: {"constraint": {"jsonSchema": json.dumps(value)}},
    "guided_choice": lambda value: {"constraint": {"choice": {"options": value}}},
    "regex": lambda value: {"constraint": {"regex": value}},
    "temperature": _in("sampling", "temperature"),
    "top_p": _in("sampling", "topP"),
    "top_k": _in("sampling", "topK"),
    "min_p": _in("sampling", "minP"),
    "repetition_penalty": _in("sampling", "repetitionPenalty"),
    "frequency_penalty": _in("sampling", "frequencyPenalty"),
    "presence_penalty": _in("sampling", "presencePenalty"),
    "logit_bias": _in("sampling", "logitBias"),
    "seed": _in("sampling", "seed"),
    "max_tokens": _in("stopping", "maxTokens"),
    "max_completion_tokens": _in("stopping", "maxTokens"),
    "min_tokens": _in("stopping", "minTokens"),
    "stop": lambda value: {"stopping": {"stop": [value] if isinstance(value, str) else value}},
    "stop_token_ids": _in("stopping", "stopTokenIds"),
    "ignore_eos": _in("stopping", "ignoreEos"),
    "include_stop": _in("stopping", "includeStop"),
    "logprobs": _in("output", "logprobs"),
    "top_logprobs": _in("output", "topLogprobs"),
    "prompt_cache_key": _in("cache", "salt"),
}

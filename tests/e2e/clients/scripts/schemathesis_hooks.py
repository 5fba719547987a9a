"""For schemathesis: what no document can say of a request is made true of those that keep to the document.

That is what depends on the model (its name, its vocabulary, its context), what is text in a language of its own
(expressions, grammars, JSON, schemas), and how the values of two fields compare.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator"

import json
from typing import Any

import schemathesis
from hypothesis import strategies

MODEL = "tiny"
VOCABULARY = 380
LONGEST = 8
"""Tokens of an answer, so that no request of the many runs for long."""

Body = dict[str, Any]

schemathesis.openapi.format("regex", strategies.sampled_from(["[ab]{1,4}", "yes|no", "\\d+", "é*"]))
schemathesis.openapi.format("lark", strategies.sampled_from(['start: "a"+', "start: /[0-9]+/ | WORD\nWORD: /[a-z]+/"]))


@schemathesis.hook
def before_call(context: object, case: Any, kwargs: object) -> None:
    """Name the model in a body that names any, and make a body that is allowed one that can be answered."""
    if not isinstance(case.body, dict) or not case.body.get("model") or not isinstance(case.body["model"], str):
        return
    body = case.body | {"model": MODEL}
    case.body = answerable(body) if case.meta and case.meta.generation.mode.is_positive else body


def answerable(body: Body) -> Body:
    """Change what the model, a language or another field forbids; all else stays."""
    made = {name: value for name, value in body.items() if value is not None}
    for change in (
        _fitting,
        _bounded,
        _known_tokens,
        _one_constraint,
        _one_name,
        _known_tools,
        _parsable,
        _enforceable,
    ):
        change(made)
    return body | made | {name: None for name, value in body.items() if name not in made and value is not None}


def _fitting(body: Body) -> None:
    """Keep the prompt within the context."""
    for name in ("messages", "tools", "prompt"):
        if name in body:
            body[name] = _short(body[name])


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:500]
    if isinstance(value, dict):
        return {name[:500]: _short(each) for name, each in value.items()}
    return [_short(each) for each in value[:16]] if isinstance(value, list) else value


def _bounded(body: Body) -> None:
    """Keep the numbers of tokens and of choices to what they may be together."""
    names = [name for name in ("max_tokens", "max_completion_tokens") if name in body]
    for name in names or ["max_tokens"]:
        body[name] = min(body.get(name, LONGEST), LONGEST)
    if "min_tokens" in body:
        body["min_tokens"] = min(body["min_tokens"], *(body[name] for name in names or ["max_tokens"]))
    prompt = body.get("prompt")
    if isinstance(prompt, list) and isinstance(prompt[0], str | list):
        body["prompt"] = prompt[: 128 // int(body.get("n", 1))]
    if "best_of" in body:
        body["best_of"] = body.get("n", 1)


def _known_tokens(body: Body) -> None:
    """Take ids from the vocabulary."""
    if "logit_bias" in body:
        body["logit_bias"] = {str(int(token) % VOCABULARY): bias for token, bias in body["logit_bias"].items()}
    if "stop_token_ids" in body:
        body["stop_token_ids"] = [token % VOCABULARY for token in body["stop_token_ids"]]
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        body["prompt"] = [_known(part) for part in prompt]


def _known(part: Any) -> Any:
    if isinstance(part, list):
        return [_known(token) for token in part]
    return part if isinstance(part, str) else part % VOCABULARY


def _one_constraint(body: Body) -> None:
    """Leave the first of several constraints."""
    outputs = {name: value for name, value in body.get("structured_outputs", {}).items() if value not in (None, False)}
    for name in list(outputs)[1:]:
        body["structured_outputs"] = body["structured_outputs"] | {name: None}
    said = [name for name in body if name.startswith("guided_") or name in ("response_format", "regex")]
    for name in [*(["structured_outputs"] if outputs else []), *said][1:]:
        del body[name]
    if body.get("tool_choice") not in (None, "none", "auto"):
        for name in said:
            body.pop(name, None)
        body.pop("structured_outputs", None)


def _one_name(body: Body) -> None:
    """Say by one name what has several."""
    for newer, older in (("effort", "reasoning_effort"), ("max_tokens", "thinking_budget")):
        if body.get("reasoning", {}).get(newer) is not None:
            body.pop(older, None)
    if "include_stop" in body:
        body.pop("include_stop_str_in_output", None)


def _known_tools(body: Body) -> None:
    """Name each tool once, and call one that there is."""
    tools = {tool["function"]["name"]: tool for tool in body.get("tools", ())}
    if tools:
        body["tools"] = list(tools.values())
    if isinstance(body.get("tool_choice"), dict):
        body["tool_choice"] = {"type": "function", "function": {"name": next(iter(tools))}}


def _parsable(body: Body) -> None:
    """Make JSON of the texts that have to be."""
    if isinstance(body.get("guided_json"), str):
        body["guided_json"] = _json(body["guided_json"])
    outputs = body.get("structured_outputs", {})
    if isinstance(outputs.get("json"), str):
        body["structured_outputs"] = outputs | {"json": _json(outputs["json"])}
    for message in body.get("messages", ()):
        if message["role"] == "assistant":
            for call in message.get("tool_calls") or ():
                call["function"]["arguments"] = _json(call["function"]["arguments"])


def _enforceable(body: Body) -> None:
    """Leave schemas without keywords, of which those that cannot be enforced are refused."""
    if isinstance(body.get("guided_json"), dict):
        body["guided_json"] = _annotated(body["guided_json"])
    outputs = body.get("structured_outputs", {})
    if isinstance(outputs.get("json"), dict):
        body["structured_outputs"] = outputs | {"json": _annotated(outputs["json"])}
    wanted = body.get("response_format", {})
    if wanted.get("type") == "json_schema":
        named = wanted["json_schema"] | {"schema": _annotated(wanted["json_schema"]["schema"])}
        body["response_format"] = wanted | {"json_schema": named}
    elif wanted.get("type") == "json_object" and wanted.get("schema"):
        body["response_format"] = wanted | {"schema": _annotated(wanted["schema"])}
    for tool in body.get("tools", ()):
        if tool["function"].get("parameters"):
            tool["function"]["parameters"] = _annotated(tool["function"]["parameters"])


def _annotated(schema: Body) -> Body:
    return {name if name.startswith("x-") else f"x-{name}": value for name, value in schema.items()}


def _json(text: str) -> str:
    return text if text.startswith('{"title": ') else json.dumps({"title": text})

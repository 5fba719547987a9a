"""How models write calls: for each format what writes them, and the parser of mlx-lm that reads them."""

# ruff: noqa: RUF001 - the bars in DeepSeek's tokens are fullwidth ones

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.text.tools.registry import FORMATS, TEMPLATES, VOCABULARIES
from service.text.tools.syntax import Arguments, Began, Closed, Event, Plain, ToolSyntax
from service.types import Tool

TOOLS = (
    Tool(
        "get_weather",
        "Weather of a city",
        json.dumps(
            {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "share": {"type": "number"},
                    "metric": {"type": "boolean"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "where": {"type": "object"},
                    "note": {"type": ["string", "null"]},
                },
                "required": ["city"],
            }
        ),
    ),
    Tool("now", "", "{}"),
)

SYNTAXES = tuple(
    {
        syntax.name: syntax for syntax in (*FORMATS.values(), *(syntax for _, syntax in (*TEMPLATES, *VOCABULARIES)))
    }.values()
)
"""All of them."""

Values = Mapping[str, Any]
Calls = Sequence[tuple[str, Values]]


@dataclass(frozen=True)
class Call:
    """One call that was read."""

    name: str
    arguments: str
    id: str = ""


@dataclass(frozen=True)
class Written:
    """How calls are written, all together; what mlx-lm has to read them; which arguments are left out for it."""

    write: Callable[[Calls], str]
    oracle: str = ""
    lacks: frozenset[str] = frozenset()


def read(syntax: ToolSyntax, parts: Sequence[str], tools: tuple[Tool, ...] = TOOLS) -> list[Event]:
    """Read a text in parts."""
    reader = syntax.reader(tools)
    return [event for part in parts for event in reader.feed(part)] + reader.flush()


def folded(events: Sequence[Event]) -> tuple[str, list[Call]]:
    """Return the text around the calls and the calls; check that the events come in an order that makes sense."""
    text, calls, is_open = "", list[Call](), False
    for event in events:
        match event:
            case Plain(more):
                assert more
                assert not is_open
                text += more
            case Began(call_id, name):
                assert call_id
                assert not is_open
                calls.append(Call(name, "", call_id))
                is_open = True
            case Arguments(more):
                assert more
                assert is_open
                calls[-1] = Call(calls[-1].name, calls[-1].arguments + more, calls[-1].id)
            case Closed():
                is_open = False
    assert not is_open
    assert len({call.id for call in calls}) == len(calls)
    return text, calls


def as_openai(tools: tuple[Tool, ...] = TOOLS) -> list[dict[str, object]]:
    """Return tools as mlx-lm's parsers get them."""
    return [
        {"type": "function", "function": {"name": tool.name, "parameters": json.loads(tool.parameters or "{}")}}
        for tool in tools
    ]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else _json(value)


def _object(call: tuple[str, Values], key: str = "arguments") -> str:
    return _json({"name": call[0], key: call[1]})


def _each(form: Callable[[str, Values], str], before: str = "", between: str = "", after: str = "") -> Written:
    return Written(lambda calls: before + between.join(form(*call) for call in calls) + after)


def _elements(arguments: Values, form: str, value: Callable[[object], str] = _plain) -> str:
    return "".join(form % (key, value(argument)) for key, argument in arguments.items())


def _gemma(value: object, quote: str) -> str:
    match value:
        case str():
            return quote + value + quote
        case dict():
            return "{" + ",".join(f"{key}:{_gemma(inner, quote)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ",".join(_gemma(inner, quote) for inner in value) + "]"
        case _:
            return _json(value)


def _gemma_call(opening: str, closing: str, quote: str) -> Callable[[Calls], str]:
    return lambda calls: "".join(
        f"{opening}call:{name}{_gemma(dict(arguments), quote)}{closing}" for name, arguments in calls
    )


def _k3_argument(key: str, value: object) -> str:
    kind = "string" if isinstance(value, str) else "object"
    return f'<|open|>argument key="{key}" type="{kind}"<|sep|>{_plain(value)}<|close|>argument<|sep|>'


def _k3_call(name: str, arguments: Values) -> str:
    body = "".join(_k3_argument(key, value) for key, value in arguments.items())
    return f'<|open|>call tool="{name}" index="1"<|sep|>{body}<|close|>call<|sep|>'


def _dsml_argument(key: str, value: object) -> str:
    string = "true" if isinstance(value, str) else "false"
    return f'<｜DSML｜parameter name="{key}" string="{string}">{_plain(value)}</｜DSML｜parameter>\n'


def _dsml_call(name: str, arguments: Values) -> str:
    body = "".join(_dsml_argument(key, value) for key, value in arguments.items())
    return f'<｜DSML｜invoke name="{name}">\n{body}</｜DSML｜invoke>\n'


def _kimi_k2(calls: Calls) -> str:
    written = (
        f"<|tool_call_begin|>functions.{name}:{place}<|tool_call_argument_begin|>{_json(arguments)}<|tool_call_end|>"
        for place, (name, arguments) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{''.join(written)}<|tool_calls_section_end|>"


def _pythonic(calls: Calls) -> str:
    written = (
        f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})" for name, arguments in calls
    )
    return f"<|tool_call_start|>[{', '.join(written)}]<|tool_call_end|>"


def _deepseek(name: str, arguments: Values) -> str:
    return (
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{json.dumps(arguments, indent=1)}\n```"
        "<｜tool▁call▁end｜>"
    )


def _glm(prefix: str) -> Callable[[Calls], str]:
    def write(calls: Calls) -> str:
        return "\n".join(
            f"<{prefix}tool_call>{name}\n"
            + _elements(
                arguments,
                f"<{prefix}arg_key>%s</{prefix}arg_key>\n<{prefix}arg_value>%s</{prefix}arg_value>\n",
            )
            + f"</{prefix}tool_call>"
            for name, arguments in calls
        )

    return write


def _hermes(calls: Calls) -> str:
    return "\n".join(f"<tool_call>\n{_object(call)}\n</tool_call>" for call in calls)


def _coder(prefix: str) -> Callable[[Calls], str]:
    return lambda calls: "\n".join(
        f"<{prefix}tool_call>\n<function={name}>\n"
        + _elements(arguments, "<parameter=%s>\n%s\n</parameter>\n")
        + f"</function>\n</{prefix}tool_call>"
        for name, arguments in calls
    )


def _cohere(calls: Calls) -> str:
    written = (
        _json({"tool_call_id": str(place), "tool_name": name, "parameters": arguments})
        for place, (name, arguments) in enumerate(calls)
    )
    return "<|START_ACTION|>[\n    " + ",\n    ".join(written) + "\n]<|END_ACTION|>"


def _minicpm5(calls: Calls) -> str:
    def value(argument: object) -> str:
        text = _plain(argument)
        return f"<![CDATA[{text}]]>" if {"<", "&", "\n"} & set(text) else text

    return "".join(
        f'<function name="{name}">' + _elements(arguments, '<param name="%s">%s</param>', value) + "</function>"
        for name, arguments in calls
    )


def _elements_in(prefix: str, section: str, argument: str) -> Callable[[Calls], str]:
    def write(calls: Calls) -> str:
        invocations = (
            f'<{prefix}invoke name="{name}">\n'
            + _elements(arguments, f'<{argument} name="%s">%s</{argument}>\n')
            + f"</{prefix}invoke>\n"
            for name, arguments in calls
        )
        return f"<{section}>\n{''.join(invocations)}</{section}>"

    return write


def _list_after(marker: str, closing: str = "") -> Callable[[Calls], str]:
    return lambda calls: f"{marker}[{', '.join(_object(call) for call in calls)}]{closing}"


WRITTEN: dict[str, Written] = {
    "hermes": Written(_hermes, "json_tools"),
    "llama": Written(lambda calls: "; ".join(_object(call, "parameters") for call in calls)),
    "llama4": Written(
        lambda calls: f"<|python_start|>{'; '.join(_object(call, 'parameters') for call in calls)}<|python_end|>"
    ),
    "mistral": Written(_list_after("[TOOL_CALLS] "), "mistral"),
    "mistral_args": Written(
        lambda calls: "".join(f"[TOOL_CALLS]{name}[ARGS]{_json(arguments)}" for name, arguments in calls), "mistral"
    ),
    "gemma4": Written(_gemma_call("<|tool_call>", "<tool_call|>", '<|"|>'), "gemma4"),
    "function_gemma": Written(
        _gemma_call("<start_function_call>", "<end_function_call>", "<escape>"),
        "function_gemma",
        frozenset({"tags", "where"}),
    ),
    "phi": Written(_list_after("<|tool_call|>", "<|/tool_call|>")),
    "granite": Written(_list_after("<|tool_call|>")),
    "deepseek": _each(_deepseek, "<｜tool▁calls▁begin｜>", "\n", "<｜tool▁calls▁end｜>"),
    "deepseek_v31": _each(
        lambda name, arguments: f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{_json(arguments)}<｜tool▁call▁end｜>",
        "<｜tool▁calls▁begin｜>",
        "",
        "<｜tool▁calls▁end｜>",
    ),
    "deepseek_v32": _each(_dsml_call, "<｜DSML｜function_calls>\n", "", "</｜DSML｜function_calls>"),
    "harmony": _each(
        lambda name, arguments: (
            f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{_json(arguments)}"
        ),
        "",
        "<|call|><|start|>assistant",
        "<|call|>",
    ),
    "kimi_k2": Written(_kimi_k2, "kimi_k2"),
    "kimi_k3": Written(
        lambda calls: f"<|open|>tools<|sep|>{''.join(_k3_call(*call) for call in calls)}<|close|>tools<|sep|>",
        "kimi_k3",
    ),
    "pythonic": Written(_pythonic, "pythonic"),
    "qwen3_coder": Written(_coder(""), "qwen3_coder"),
    "seed": Written(_coder("seed:")),
    "nemotron": Written(_list_after("<TOOLCALL>", "</TOOLCALL>")),
    "cohere": Written(_cohere),
    "minimax_m2": Written(_elements_in("", "minimax:tool_call", "parameter"), "minimax_m2"),
    "minicpm5": Written(_minicpm5, "minicpm5"),
    "muse_spark": Written(_elements_in("atem:", "atem:function_calls", "atem:parameter"), "muse_spark"),
    "glm47": Written(_glm(""), "glm47"),
    "longcat": Written(_glm("longcat_"), "longcat"),
}

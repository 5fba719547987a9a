"""Gemma 4 and FunctionGemma: `call:name{key:value}`, strings between marks of their own.

Sources: https://ai.google.dev/gemma/docs/functiongemma/formatting-and-best-practices; for Gemma 4 its chat template.
"""

import re
from functools import partial

from service.text.tools.frame import Frame
from service.text.tools.markers import markers
from service.text.tools.reader import Format, syntax
from service.text.tools.source import NotACall, Step
from service.text.tools.stream import CallStream
from service.text.tools.syntax import ToolSyntax
from service.text.tools.values import from_json, quoted

_CALL = "call:"
_NAME = re.compile(r"[\w.-]*")
_KEY = re.compile(r"[^\s:,{}\[\]\"<]*")
_SCALAR_ENDS = (",", "}", "]")
_MAX_DEPTH = 64


def _read(quote: str, closing: str, stream: CallStream, _: str) -> Step[None]:
    yield from stream.blank()
    yield from stream.expect(_CALL)
    name = yield from stream.run(_NAME)
    if not (yield from stream.next_is("{")):
        raise NotACall
    stream.begin(name)
    if not (yield from _value(stream, quote, closing)):
        yield from stream.verbatim(markers(closing))
    yield from stream.close(closing)


def _value(stream: CallStream, quote: str, closing: str, depth: int = 0) -> Step[bool]:
    """Say the value that comes next as JSON; return whether it is whole."""
    if depth > _MAX_DEPTH:
        return False
    if (yield from stream.take(quote)):
        stream.say('"')
        if (yield from stream.escaped(markers(quote, closing))) != quote:
            return False
        stream.at += len(quote)
        stream.say('"')
    elif stream.cut(quote):
        return False
    elif (yield from stream.next_is('"')):
        yield from stream.arguments(markers(closing))
    elif opening := (yield from stream.take("{", "[")):
        return (yield from _members(stream, quote, closing, opening, depth + 1))
    else:
        text = (yield from stream.before(markers(closing, *_SCALAR_ENDS))).strip()
        if not text and stream.over:
            return False
        stream.say(from_json(text) or quoted(text))
    return True


def _members(stream: CallStream, quote: str, closing: str, opening: str, depth: int) -> Step[bool]:
    end, comma = ("}" if opening == "{" else "]"), ""
    stream.say(opening)
    while True:
        yield from stream.blank()
        if (yield from stream.take(end)):
            stream.say(end)
            return True
        if comma and not (yield from stream.take(",")):
            return False
        yield from stream.blank()
        if comma and (yield from stream.next_is(end)):
            continue
        stream.say(comma)
        comma = ", "
        if opening == "{" and not (yield from _key(stream, closing)):
            return False
        if not (yield from _value(stream, quote, closing, depth)):
            return False


def _key(stream: CallStream, closing: str) -> Step[bool]:
    if (yield from stream.next_is('"')):
        yield from stream.arguments(markers(closing))
    else:
        key = quoted((yield from stream.run(_KEY)))
        stream.say(key[:-1] if stream.over else key)
    yield from stream.blank()
    if not (yield from stream.take(":")):
        return False
    stream.say(": ")
    yield from stream.blank()
    return True


def _syntax(name: str, opening: str, closing: str, quote: str) -> ToolSyntax:
    return syntax(
        name,
        Format(partial(_read, quote, closing), (opening,), (closing, quote)),
        Frame(opening=opening, head=opening + _CALL + "{name}", tail=closing),
    )


GEMMA4 = _syntax("gemma4", "<|tool_call>", "<tool_call|>", '<|"|>')
FUNCTION_GEMMA = _syntax("function_gemma", "<start_function_call>", "<end_function_call>", "<escape>")

"""LFM2: `<|tool_call_start|>[name(key="value")]<|tool_call_end|>`.

Source: https://docs.liquid.ai/lfm/key-concepts/tool-use
"""

import re

from service.text.tools.lists import list_frame
from service.text.tools.markers import markers
from service.text.tools.objects import read_list
from service.text.tools.reader import Format, syntax
from service.text.tools.source import NotACall, Step
from service.text.tools.stream import CallStream
from service.text.tools.values import from_python, quoted

_OPENING, _CLOSING = "<|tool_call_start|>", "<|tool_call_end|>"
_NAME = re.compile(r"[\w.-]*")
_ENDS = markers(_CLOSING)
_VALUE_ENDS = markers(_CLOSING, ",", ")")


def _read(stream: CallStream, _: str) -> Step[None]:
    yield from stream.blank()
    start = stream.at
    yield from stream.expect("[")
    yield from stream.blank()
    if (yield from stream.next_is("{")):
        stream.at = start
        yield from read_list(stream, _CLOSING)
        return
    yield from _calls(stream)
    yield from stream.close(_CLOSING)


def read_bare(stream: CallStream, *closings: str) -> Step[None]:
    """Read a list of calls that no marker tells: each is whole before it begins, and of one of the request's tools."""
    yield from stream.expect("[")
    while True:
        yield from stream.blank()
        if not (yield from _call(stream, bare=True)):
            raise NotACall
        stream.mark()
        yield from stream.blank()
        if not (yield from stream.take(",")):
            yield from stream.take("]")
            break
        yield from stream.blank()
        if stream.over:
            break
    yield from stream.close(*closings)


def _calls(stream: CallStream) -> Step[None]:
    while True:
        if not (yield from _call(stream)):
            yield from stream.verbatim(_ENDS)
            return
        stream.mark()
        yield from stream.blank()
        if not (yield from stream.take(",")):
            yield from stream.take("]")
            return
        yield from stream.blank()
        if stream.over:
            return


def _call(stream: CallStream, *, bare: bool = False) -> Step[bool]:
    """Read one call; return whether it is whole. One that is `bare` begins at its end only."""
    name = yield from stream.run(_NAME)
    if bare and name not in stream.tools:
        raise NotACall
    yield from stream.expect("(")
    yield from stream.blank()
    comma, held = "", ["{"]
    while not (yield from stream.take(")")):
        if comma:
            if not (yield from stream.take(",")):
                return False
            yield from stream.blank()
            if (yield from stream.next_is(")")):
                continue
        start = stream.at
        key = yield from stream.run(_NAME)
        yield from stream.blank()
        if not (yield from stream.take("=")):
            if not comma:
                raise NotACall
            stream.at = stream.at if stream.over else start
            return False
        held.append(f"{comma}{quoted(key)}: ")
        if not bare:
            _say(stream, name, held)
        yield from stream.blank()
        held.append((yield from _value(stream, bare=bare)))
        if not bare:
            _say(stream, name, held)
        comma = ", "
    held.append("}")
    _say(stream, name, held)
    return True


def _say(stream: CallStream, name: str, held: list[str]) -> None:
    """Say what is held of the arguments, and the name before the first of it."""
    if not stream.open:
        stream.begin(name)
    stream.say("".join(held))
    held.clear()
    stream.settle()


def _value(stream: CallStream, *, bare: bool) -> Step[str]:
    """Read a value; text that is none is taken for a string, unless it is `bare`. The end may cut it."""
    start = stream.at
    try:
        text = yield from stream.value(python=True)
    except NotACall:
        if bare or not stream.over:
            raise
        text = stream.text[start:]
        return quoted(text[1:])[:-1] if text.startswith(("'", '"')) else from_python(text) or text
    value = from_python(text)
    yield from stream.blank()
    if not (yield from stream.next_is(",", ")")) and not stream.over:
        text, value = stream.text[start : stream.at], None
        text = (text + (yield from stream.before(_VALUE_ENDS))).strip()
    if bare and value is None:
        raise NotACall
    return value or quoted(text)


PYTHONIC = syntax(
    "pythonic",
    Format(_read, (_OPENING,), (_CLOSING,)),
    list_frame(_OPENING, closing=_CLOSING),
)

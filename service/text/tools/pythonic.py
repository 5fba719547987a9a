"""LFM2: `<|tool_call_start|>[name(key="value")]<|tool_call_end|>`.

Source: https://docs.liquid.ai/lfm/key-concepts/tool-use
"""

import re

from service.text.tools.frame import Frame
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
    while True:
        if not (yield from _call(stream)):
            yield from stream.verbatim(_ENDS)
            break
        stream.mark()
        yield from stream.blank()
        if not (yield from stream.take(",")):
            yield from stream.take("]")
            break
        yield from stream.blank()
    yield from stream.close(_CLOSING)


def _call(stream: CallStream) -> Step[bool]:
    """Read one call; return whether it is whole."""
    name = yield from stream.run(_NAME)
    yield from stream.expect("(")
    yield from stream.blank()
    comma = ""
    while not (yield from stream.take(")")):
        if comma:
            if not (yield from stream.take(",")):
                return False
            yield from stream.blank()
            if (yield from stream.next_is(")")):
                continue
        key = yield from stream.run(_NAME)
        yield from stream.blank()
        if not (yield from stream.take("=")):
            if not comma:
                raise NotACall
            return False
        if not comma:
            stream.begin(name)
            stream.say("{")
        stream.say(f"{comma}{quoted(key)}: ")
        yield from stream.blank()
        stream.say((yield from _value(stream)))
        stream.settle()
        comma = ", "
    if not comma:
        stream.begin(name)
        stream.say("{")
    stream.say("}")
    return True


def _value(stream: CallStream) -> Step[str]:
    start = stream.at
    text = yield from stream.value(python=True)
    value = from_python(text)
    yield from stream.blank()
    if not (yield from stream.next_is(",", ")")):
        yield from stream.before(_VALUE_ENDS)
        text, value = stream.text[start : stream.at].strip(), None
    return value or quoted(text)


PYTHONIC = syntax(
    "pythonic",
    Format(_read, (_OPENING,), (_CLOSING,)),
    Frame(
        opening=_OPENING,
        head='{"name": {string}, "arguments": ',
        tail="}",
        before=_OPENING + "[",
        between=", ",
        after="]" + _CLOSING,
    ),
)

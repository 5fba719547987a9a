"""Calls that are JSON objects: `{"name": …, "arguments": {…}}`, one or a list of them."""

import json

from service.text.tools.markers import Markers, markers
from service.text.tools.source import NotACall, Step
from service.text.tools.stream import CallStream
from service.text.tools.values import from_json

NAMES, ARGUMENTS, NOTES = ("name", "function", "tool", "tool_name"), ("arguments", "parameters"), ("id", "type")
"""Keys of a call: what it calls, with what, and what else there may be where no marker tells that it is one."""
_BARE_KEYS = {*NAMES, *ARGUMENTS, *NOTES}
_NOTHING = markers()


def read_object(
    stream: CallStream, ends: Markers = _NOTHING, *, bare: bool = False, may_lack_arguments: bool = False
) -> Step[None]:
    """Read the object that comes next and begin its call, whose arguments a marker of `ends` ends if they are broken.

    `bare`: no marker says that it is a call, so that it must be one of the request's tools and have no other keys.
    The caller ends the call.
    """
    yield from stream.expect("{")
    name = own_id = held = ""
    while True:
        yield from stream.blank()
        if (yield from stream.take("}")):
            break
        key = yield from _string(stream)
        yield from _colon(stream)
        if key in NAMES and not name and (yield from stream.next_is("{")):
            yield from read_object(stream, ends, bare=bare, may_lack_arguments=may_lack_arguments)
            yield from _rest(stream)
            return
        if bare and key not in _BARE_KEYS:
            raise NotACall
        if key in NAMES:
            name = yield from _string(stream)
            if bare and name not in stream.tools:
                raise NotACall
        elif key in ARGUMENTS and name:
            yield from _arguments(stream, name, own_id, ends)
            yield from _rest(stream)
            return
        else:
            value = yield from stream.value()
            held = value if key in ARGUMENTS else held
            own_id = _text(value) if key == "id" else own_id
        yield from stream.blank()
        if not (yield from stream.take(",")):
            yield from stream.expect("}")
            break
    if not (held or may_lack_arguments):
        raise NotACall
    stream.begin(name, own_id)
    stream.say(_unquoted(held or "{}"))


def read_list(stream: CallStream, *closings: str, may_lack_arguments: bool = False) -> Step[None]:
    """Read a list of such objects and end each call; `closings` may come after it."""
    yield from stream.expect("[")
    while True:
        yield from stream.blank()
        yield from read_object(stream, markers(*closings), may_lack_arguments=may_lack_arguments)
        stream.mark()
        yield from stream.blank()
        if not (yield from stream.take(",")):
            break
        yield from stream.blank()
        if stream.over:
            break
    if (yield from stream.take("]")) or stream.over:
        yield from stream.close(*closings)
    else:
        stream.at = 0
        stream.awaited = closings


def _arguments(stream: CallStream, name: str, own_id: str, ends: Markers) -> Step[None]:
    if (yield from stream.next_is('"')):
        value = yield from stream.value()
        stream.begin(name, own_id)
        stream.say(_unquoted(value))
        return
    if not (yield from stream.next_is(*"{[")):
        value = yield from stream.value()
        stream.begin(name, own_id)
        stream.say(value)
        return
    stream.begin(name, own_id)
    yield from stream.arguments(ends)


def _rest(stream: CallStream) -> Step[None]:
    """Read what the object has after the arguments. What does not belong there stays, unless it is only cut."""
    stream.settle()
    try:
        yield from stream.blank()
        while (yield from stream.take(",")):
            yield from stream.blank()
            yield from _string(stream)
            yield from _colon(stream)
            yield from stream.value()
            yield from stream.blank()
        yield from stream.expect("}")
    except NotACall:
        stream.at = stream.at if stream.over else 0


def _string(stream: CallStream) -> Step[str]:
    if not (yield from stream.next_is('"')):
        raise NotACall
    try:
        return str(json.loads((yield from stream.value())))
    except ValueError:
        raise NotACall from None


def _colon(stream: CallStream) -> Step[None]:
    yield from stream.blank()
    yield from stream.expect(":")
    yield from stream.blank()


def _text(value: str) -> str:
    """Return the text of a JSON string, "" for another value."""
    return str(json.loads(value)) if value.startswith('"') else ""


def _unquoted(value: str) -> str:
    """Return the JSON object that is written in a JSON string, as some templates show arguments."""
    if not value.startswith('"'):
        return value
    try:
        inner = json.loads(value)
        return (from_json(inner) if isinstance(json.loads(inner), dict) else None) or value
    except (ValueError, RecursionError):
        return value

"""Mistral: `[TOOL_CALLS]` and a list of JSON objects, or with Tekken's later versions `name[ARGS]{…}`.

Source: https://docs.mistral.ai/guides/tokenization
"""

import re
import secrets
import string

from service.text.tools.frame import Frame
from service.text.tools.lists import list_frame
from service.text.tools.markers import markers
from service.text.tools.objects import read_list, read_object
from service.text.tools.reader import Format, syntax
from service.text.tools.source import NotACall, Step
from service.text.tools.stream import CallStream

_OPENING, _ARGS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_NAME = re.compile(r"[\w.-]*")
_ENDS = markers(_OPENING)
_ID_CHARACTERS = string.ascii_letters + string.digits


def _new_id() -> str:
    """Return an id of nine letters and digits: Mistral's templates refuse all others."""
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(9))


def _read(stream: CallStream, _: str) -> Step[None]:
    yield from stream.blank()
    if (yield from stream.next_is("[")):
        yield from read_list(stream, may_lack_arguments=True)
    elif (yield from stream.next_is("{")):
        yield from read_object(stream, _ENDS, may_lack_arguments=True)
        yield from stream.close()
    else:
        yield from _read_named(stream)
        yield from _read_more(stream)


def _read_named(stream: CallStream) -> Step[None]:
    name = yield from stream.run(_NAME)
    yield from stream.blank()
    own_id = ""
    if (yield from stream.take(_ID)):
        yield from stream.blank()
        own_id = yield from stream.run(_NAME)
        yield from stream.blank()
    yield from stream.expect(_ARGS)
    yield from stream.blank()
    if not (yield from stream.next_is("{")):
        raise NotACall
    stream.begin(name, own_id)
    yield from stream.arguments(_ENDS)
    yield from stream.close()


def _read_more(stream: CallStream) -> Step[None]:
    """Read calls that follow without a marker of their own."""
    try:
        while True:
            yield from stream.blank()
            yield from _read_named(stream)
    except NotACall:
        stream.at = 0


_FORMAT = Format(_read, (_OPENING,), (_ARGS, _ID), make_id=_new_id)

MISTRAL = syntax("mistral", _FORMAT, list_frame(_OPENING, space=" "))
MISTRAL_ARGS = syntax("mistral_args", _FORMAT, Frame(opening=_OPENING, head=_OPENING + "{name}" + _ARGS))

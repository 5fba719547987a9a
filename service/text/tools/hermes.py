"""Hermes, Qwen 2.5 and 3, SmolLM3 and many others: `<tool_call>{"name": …, "arguments": …}</tool_call>`.

Source: https://github.com/NousResearch/Hermes-Function-Calling
"""

from service.text.tools.frame import Frame
from service.text.tools.markers import Markers, markers
from service.text.tools.objects import read_list, read_object
from service.text.tools.reader import Format, syntax
from service.text.tools.source import Step
from service.text.tools.stream import CallStream

_OPENING, _CLOSING = "<tool_call>", "</tool_call>"
_ENDS = markers(_OPENING, _CLOSING)


def read_objects(stream: CallStream, ends: Markers, closing: str) -> Step[None]:
    """Read an object or a list of them after a marker, and end each call; `closing` may come after it."""
    yield from stream.blank()
    if (yield from stream.next_is("[")):
        yield from read_list(stream, closing)
    else:
        yield from read_object(stream, ends)
        yield from stream.close(closing)


def _read(stream: CallStream, _: str) -> Step[None]:
    yield from read_objects(stream, _ENDS, _CLOSING)


HERMES = syntax(
    "hermes",
    Format(_read, (_OPENING,), (_CLOSING,)),
    Frame(
        opening=_OPENING,
        head=_OPENING + '\n{"name": {string}, "arguments": ',
        tail="}\n" + _CLOSING,
        between="\n",
    ),
)

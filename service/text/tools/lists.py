"""Phi 4 and Granite 3: a list of JSON objects after a marker.

Sources: https://huggingface.co/microsoft/Phi-4-mini-instruct, https://www.ibm.com/granite/docs/models/granite.
"""

from service.text.tools.frame import Frame
from service.text.tools.markers import markers
from service.text.tools.objects import read_list, read_object
from service.text.tools.reader import Format, syntax
from service.text.tools.source import Step
from service.text.tools.stream import CallStream

_OPENING, _CLOSING = "<|tool_call|>", "<|/tool_call|>"
_FUNCTOOLS = "functools["
_TAGS = ("<tool_call>", "</tool_call>")
"""Granite 3.3 and 4 have them for one object."""
_ENDS = markers(_OPENING, _CLOSING, *_TAGS)
_CALL = '{"name": {string}, "arguments": '


def _read(stream: CallStream, opening: str) -> Step[None]:
    if opening == _FUNCTOOLS:
        stream.at -= 1
    closing = _TAGS[1] if opening == _TAGS[0] else _CLOSING
    yield from stream.blank()
    if (yield from stream.next_is("[")):
        yield from read_list(stream, closing)
    else:
        yield from read_object(stream, _ENDS)
        yield from stream.close(closing)


PHI = syntax(
    "phi",
    Format(_read, (_OPENING, _FUNCTOOLS), (_CLOSING,)),
    Frame(_OPENING, _CALL, "}", before=_OPENING + "[", between=", ", after="]" + _CLOSING),
)
GRANITE = syntax(
    "granite",
    Format(_read, (_OPENING, _TAGS[0]), (_CLOSING, _TAGS[1])),
    Frame(_OPENING, _CALL, "}", before=_OPENING + "[", between=", ", after="]"),
)

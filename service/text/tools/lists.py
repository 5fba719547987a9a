"""Phi 4, Granite 3, Nemotron and Command R7B: a list of JSON objects after a marker.

Sources: https://huggingface.co/microsoft/Phi-4-mini-instruct, https://www.ibm.com/granite/docs/models/granite,
https://huggingface.co/nvidia/NVIDIA-Nemotron-Nano-9B-v2, https://docs.cohere.com/docs/command-r7b-hf.
"""

from service.text.tools.frame import Frame
from service.text.tools.hermes import read_objects
from service.text.tools.markers import markers
from service.text.tools.reader import Format, syntax
from service.text.tools.source import Step
from service.text.tools.stream import CallStream

_OPENING, _CLOSING = "<|tool_call|>", "<|/tool_call|>"
_FUNCTOOLS = "functools["
_TAGS = ("<tool_call>", "</tool_call>")
"""Granite 3.3 and 4 have them for one object."""
_NEMOTRON = ("<TOOLCALL>", "</TOOLCALL>")
_ACTION = ("<|START_ACTION|>", "<|END_ACTION|>")
_CLOSINGS = dict((_TAGS, _NEMOTRON, _ACTION))
"""By what they close."""
_ENDS = markers(_OPENING, _CLOSING, *(marker for pair in _CLOSINGS.items() for marker in pair))


def list_frame(opening: str, *, space: str = "", closing: str = "") -> Frame:
    """Return the frame of calls that are one list of JSON objects between two markers, after some `space`."""
    return Frame(
        opening=opening,
        head='{"name": {string}, "arguments": ',
        tail="}",
        before=f"{opening}{space}[",
        between=", ",
        after="]" + closing,
    )


def _read(stream: CallStream, opening: str) -> Step[None]:
    if opening == _FUNCTOOLS:
        stream.at -= 1
    closing = _CLOSINGS.get(opening, _CLOSING)
    yield from read_objects(stream, _ENDS, closing)


PHI = syntax(
    "phi",
    Format(_read, (_OPENING, _FUNCTOOLS), (_CLOSING,)),
    list_frame(_OPENING, closing=_CLOSING),
)
GRANITE = syntax(
    "granite",
    Format(_read, (_OPENING, _TAGS[0]), (_CLOSING, _TAGS[1])),
    list_frame(_OPENING),
)
NEMOTRON = syntax(
    "nemotron",
    Format(_read, _NEMOTRON[:1], _NEMOTRON[1:]),
    list_frame(_NEMOTRON[0], closing=_NEMOTRON[1]),
)
COHERE = syntax(
    "cohere",
    Format(_read, _ACTION[:1], _ACTION[1:]),
    Frame(
        _ACTION[0],
        '{"tool_call_id": "{number}", "tool_name": {string}, "parameters": ',
        "}",
        before=_ACTION[0] + "[\n    ",
        between=",\n    ",
        after="\n]" + _ACTION[1],
    ),
)

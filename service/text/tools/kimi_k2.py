"""Kimi K2: `<|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{…}<|tool_call_end|>` in a section.

Source: https://huggingface.co/moonshotai/Kimi-K2-Instruct/blob/main/docs/tool_call_guidance.md
"""

import re

from service.text.tools.frame import Frame
from service.text.tools.markers import markers
from service.text.tools.reader import Format, syntax
from service.text.tools.source import NotACall, Step
from service.text.tools.stream import CallStream

_SECTION, _END_SECTION = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"
_CALL, _ARGUMENTS, _END_CALL = "<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"
_ID = re.compile(r"[^\s<]*")
_NAME = re.compile(r"(?:functions\.)?(.+?)(:\d+)?")
_ENDS = markers(_CALL, _END_CALL, _END_SECTION)


def _read(stream: CallStream, opening: str) -> Step[None]:
    if opening == _SECTION:
        yield from stream.blank()
        yield from stream.take(_CALL)
        yield from stream.blank()
    own_id = yield from stream.run(_ID)
    yield from stream.blank()
    yield from stream.expect(_ARGUMENTS)
    yield from stream.blank()
    found = _NAME.fullmatch(own_id)
    if not found or not (yield from stream.next_is("{")):
        raise NotACall
    stream.begin(found[1], own_id if found[2] else "")
    yield from stream.arguments(_ENDS)
    yield from stream.close(_END_CALL, _END_SECTION)


KIMI_K2 = syntax(
    "kimi_k2",
    Format(_read, (_SECTION, _CALL), (_ARGUMENTS, _END_CALL, _END_SECTION)),
    Frame(
        opening=_SECTION,
        head=_CALL + "functions.{name}:{number}" + _ARGUMENTS,
        tail=_END_CALL,
        before=_SECTION,
        after=_END_SECTION,
    ),
)

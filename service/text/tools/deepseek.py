"""DeepSeek V3 and R1, which put the arguments into a block of Markdown, and V3.1, which does not.

Sources: https://huggingface.co/deepseek-ai/DeepSeek-V3-0324, https://huggingface.co/deepseek-ai/DeepSeek-V3.1.
"""

# ruff: noqa: RUF001 - the bars in their tokens are fullwidth ones

import re

from service.text.tools.frame import Frame
from service.text.tools.markers import markers
from service.text.tools.reader import Format, syntax
from service.text.tools.source import NotACall, Step
from service.text.tools.stream import CallStream

_SECTION, _END_SECTION = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _SEPARATOR, _END_CALL = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
_WORD = re.compile(r"[^\s<{`]*")
_TYPE = "function"
_BLOCK, _END_BLOCK = "```json", "```"
_ENDS = markers(_CALL, _END_CALL, _END_SECTION)


def _read(stream: CallStream, opening: str) -> Step[None]:
    if opening == _SECTION:
        yield from stream.blank()
        yield from stream.expect(_CALL)
    name = yield from stream.run(_WORD)
    yield from stream.expect(_SEPARATOR)
    if name == _TYPE and not (yield from stream.next_is("{")):
        name = yield from stream.run(_WORD)
    yield from stream.blank()
    block = yield from stream.take(_BLOCK)
    yield from stream.blank()
    if not (yield from stream.next_is("{")):
        raise NotACall
    stream.begin(name)
    yield from stream.arguments(_ENDS)
    if block:
        yield from stream.blank()
        if not (yield from stream.take(_END_BLOCK)):
            stream.cut(_END_BLOCK)
    yield from stream.close(_END_CALL, _END_SECTION)


_FORMAT = Format(_read, (_SECTION, _CALL), (_SEPARATOR, _END_CALL, _END_SECTION))

DEEPSEEK = syntax(
    "deepseek",
    _FORMAT,
    Frame(
        opening=_SECTION,
        head=_CALL + _TYPE + _SEPARATOR + "{name}\n" + _BLOCK + "\n",
        tail="\n" + _END_BLOCK + _END_CALL,
        before=_SECTION,
        between="\n",
        after=_END_SECTION,
    ),
)
DEEPSEEK_V31 = syntax(
    "deepseek_v31",
    _FORMAT,
    Frame(
        opening=_SECTION,
        head=_CALL + "{name}" + _SEPARATOR,
        tail=_END_CALL,
        before=_SECTION,
        after=_END_SECTION,
    ),
)

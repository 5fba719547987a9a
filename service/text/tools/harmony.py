"""GPT-OSS: `<|channel|>commentary to=functions.name <|constrain|>json<|message|>{…}`.

Source: https://cookbook.openai.com/articles/openai-harmony
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from service.text.tools.frame import TEXT, Frame
from service.text.tools.markers import markers
from service.text.tools.reader import Format, syntax
from service.text.tools.source import NotACall, Step
from service.text.tools.stream import CallStream
from service.text.tools.syntax import Literal
from service.types import Tool

_START, _CHANNEL, _CONSTRAIN, _MESSAGE = "<|start|>", "<|channel|>", "<|constrain|>", "<|message|>"
_END, _CALL = "<|end|>", "<|call|>"
_TO, _FUNCTIONS = "to=", "functions."
_WORD = re.compile(r"[^\s<]*")
_MAX_PARTS = 8
"""Words and markers of a header."""
_ENDS = markers(_START, _CHANNEL, _END, _CALL)


def _read(stream: CallStream, opening: str) -> Step[None]:
    """Read a header, in which the recipient may stand before or after the channel."""
    if opening == _START:
        yield from stream.expect("assistant")
    name = ""
    if opening.endswith(_FUNCTIONS):
        name = yield from stream.run(_WORD)
    for _ in range(_MAX_PARTS):
        yield from stream.blank()
        if (yield from stream.take(_MESSAGE)):
            break
        if (yield from stream.take(_TO)):
            yield from stream.expect(_FUNCTIONS)
            name = yield from stream.run(_WORD)
        elif not (yield from stream.take(_CHANNEL, _CONSTRAIN)) and not (yield from stream.run(_WORD)):
            raise NotACall
    else:
        raise NotACall
    if not name:
        raise NotACall
    yield from stream.blank()
    stream.begin(name)
    yield from stream.arguments(_ENDS)
    yield from stream.close(_CALL, _END)


_CALLS = Frame(
    opening=_CHANNEL,
    head=_CHANNEL + "commentary " + _TO + _FUNCTIONS + "{name} " + _CONSTRAIN + "json" + _MESSAGE,
    between=_END + _START + "assistant",
)


@dataclass(frozen=True)
class _Channels:
    """An answer is a message in the final channel, or calls, before which there may be one for the user."""

    def forced(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        return _CALLS.forced(tools, parallel=parallel, literal=literal)

    def triggered(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        final = literal(_CHANNEL + "final" + _MESSAGE)
        preamble = literal(_CHANNEL + "commentary" + _MESSAGE)
        answer = f"answer: {final} TOOL_TEXT? | ({preamble} TOOL_TEXT {literal(_CALLS.between)})? calls"
        return "\n".join([answer, TEXT, _CALLS.held(tools, parallel=parallel, literal=literal)])


HARMONY = syntax(
    "harmony",
    Format(_read, (_START, _CHANNEL, f" {_TO}{_FUNCTIONS}"), (_CONSTRAIN, _MESSAGE, _CALL, _END)),
    _Channels(),
)

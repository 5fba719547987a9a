"""Llama 3: a JSON object as the whole answer or after a token; semicolons between several.

Source: https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/text_prompt_format.md
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.text.tools.frame import Frame
from service.text.tools.objects import read_object
from service.text.tools.reader import Format, syntax
from service.text.tools.source import Step
from service.text.tools.stream import CallStream
from service.text.tools.syntax import Literal
from service.types import Tool

_TAG = "<|python_tag|>"
_CALL = Frame(opening="{", head='{"name": {string}, "parameters": ', tail="}", between="; ")


def _read(stream: CallStream, _: str) -> Step[None]:
    yield from stream.blank()
    while True:
        yield from read_object(stream, bare=True, may_lack_arguments=True)
        yield from stream.close()
        yield from stream.blank()
        if (yield from stream.take(";")):
            yield from stream.blank()
        if not (yield from stream.next_is("{")):
            stream.at = 0
            return


@dataclass(frozen=True)
class _Bare:
    """An answer is calls if it begins with a brace, and has none otherwise."""

    def forced(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        return _CALL.forced(tools, parallel=parallel, literal=literal)

    def triggered(self, tools: Sequence[Tool], *, parallel: bool, literal: Literal) -> str:
        answer = "answer: tool_free? | calls"
        tag = literal(_TAG)
        if tag.startswith("<["):
            answer += f" | tool_free? {tag} calls"
        free = r"tool_free: /\s*[^{\s](.|\n)*/"
        return "\n".join([answer, free, _CALL.held(tools, parallel=parallel, literal=literal)])


LLAMA = syntax("llama", Format(_read, (_TAG,), lead=_read), _Bare())

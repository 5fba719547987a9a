"""How the answer to a prompt is written, and how it is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.engine.frames import Thinking
from service.text.grammar import Grammar
from service.text.markup import Markup
from service.text.outline import Outline
from service.text.tokenizer import Tokenizer
from service.text.tools.syntax import ToolSyntax
from service.types import Tool

_BLANKS = ("\n", "\n\n", " ", "  ", "\t", "\r\n")
"""What models write before they think, if anything."""


@dataclass(frozen=True, slots=True)
class Calls:
    """The tools that an answer may call, in which format, and whether more than once."""

    syntax: ToolSyntax
    tools: Sequence[Tool]
    several: bool = True


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What an answer may hold beside text. It begins inside reasoning if `reasoning_open`."""

    markup: Markup | None = None
    reasoning_open: bool = False
    grammar: Grammar | None = None
    thinking: Thinking | None = None
    calls: Calls | None = None


def thinking(tokenizer: Tokenizer, markup: Markup, budget: int, *, is_open: bool, in_words: bool) -> Thinking | None:
    """Bound the reasoning to `budget` tokens; None where its markers are not tokens, so that it cannot be told apart.

    `is_open`: the prompt ends inside it. `in_words`: the answer that follows is no call.
    """
    outline = Outline.of(markup)
    opening, closing = tokenizer.parts(outline.opening), tokenizer.parts(outline.closing)
    if not isinstance(opening[0], int) or len(closing) != 1 or not isinstance(closing[0], int):
        return None
    ending = outline.ending + (outline.header if in_words else "")
    return Thinking(
        budget=budget,
        opening=tokenizer.encode(outline.opening, add_special=False),
        closing=[closing[0]],
        ending=tokenizer.encode(ending, add_special=False),
        is_open=is_open,
        blanks=sorted({part for text in _BLANKS for part in tokenizer.encode(text, add_special=False)}),
    )

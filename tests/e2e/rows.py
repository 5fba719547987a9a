"""Rows of the tables of all parameters: what is sent over HTTP, what over gRPC, and what must be seen of it."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.e2e.seen import Json, Seen
from tests.taught import QWEN, asked

LETTER, LETTER_ID = "I", 40
"""A token of `tiny`."""
END_ID = 380
"""Its end of turn."""
TOKENS = 16
_BASE: Json = {"model": "tiny", "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True}
BASE_TEXT = _BASE | {"prompt": "The sky is"}
# Random weights would begin to think anywhere, and know no end of it.
BASE_CHAT = _BASE | {"messages": [asked("Draw.")], "thinking_budget": 0}
_BASE_WIRE: Json = {
    "model": "tiny",
    "sampling": {"temperature": 0},
    "stopping": {"maxTokens": TOKENS, "ignoreEos": True},
}
WIRE_TEXT = _BASE_WIRE | {"text": "The sky is"}
WIRE_CHAT = _BASE_WIRE | {
    "messages": [{"role": "ROLE_USER", "content": [{"text": "Draw."}]}],
    "reasoning": {"budget": 0},
}

See = Callable[[Seen, Seen], object]
"""Whether an answer is right, given the one that the base alone gives."""


@dataclass(frozen=True)
class No:
    """A refusal: HTTP's status and param, gRPC's code and field."""

    param: str = ""
    field: str = ""
    status: int = 400
    code: int = 3


@dataclass(frozen=True)
class Row:
    """What is sent, None where a way has no such thing, and what must be seen."""

    http: Json | None
    wire: Json | None
    see: See | No


Rows = dict[str, tuple[Row, ...]]


def same(seen: Seen, base: Seen) -> bool:
    """Nothing changes."""
    return seen.bare == base.bare


def differs(seen: Seen, base: Seen) -> bool:
    """The text is another one, of as many tokens."""
    return seen.texts != base.texts and seen.completion_tokens == base.completion_tokens


def more_prompt(seen: Seen, base: Seen) -> bool:
    """The model is told more."""
    return seen.prompt_tokens > base.prompt_tokens


def says(text: str, finish: str = "stop") -> See:
    """Give a check of the text and of how it ends."""
    return lambda seen, _: (seen.one.text, seen.one.finish) == (text, finish)


def fits(pattern: str) -> See:
    """Give a check of the whole text."""
    return lambda seen, _: re.fullmatch(pattern, seen.one.text) and seen.one.finish == "stop"


def counts(tokens: int, finish: str = "length") -> See:
    """Give a check of the number of tokens."""
    return lambda seen, _: (seen.completion_tokens, seen.one.finish) == (tokens, finish)


def is_json(seen: Seen, base: Seen) -> bool:
    """The text is an object, or the beginning of one."""
    return seen.one.text.startswith("{") if seen.one.finish == "length" else isinstance(json.loads(seen.one.text), dict)


def calls_tools(*names: str) -> See:
    """Give a check of the names of the calls."""
    return lambda seen, _: tuple(call.name for call in seen.one.calls) == names


def as_taught(name: str) -> See:
    """Give a check of a lesson of `qwen`."""
    lesson = QWEN.lessons[name]
    return lambda seen, _: (seen.one.text, seen.one.reasoning) == (lesson.content or "", lesson.reasoning or "")


EXTENSIONS_THAT_ARE_REFUSED: Json = {
    "allowed_token_ids": [5],
    "bad_words": ["a"],
    "ebnf": "root ::= a",
    "guided_whitespace_pattern": " ",
    "length_penalty": 2,
    "logits_processors": ["a"],
    "prompt_logprobs": 1,
    "skip_special_tokens": False,
    "structural_tag": "{}",
    "truncate_prompt_tokens": 5,
    "typical_p": 0.5,
    "use_beam_search": True,
}


def refused(fields: Json) -> Rows:
    """Make the rows of fields that nothing serves."""
    return {name: (Row({name: value}, None, No(name)),) for name, value in fields.items()}

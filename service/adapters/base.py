"""What a model family has in common."""

import enum
from dataclasses import dataclass

from service.text.markup import Markup, think


class ToolFormat(enum.Enum):
    """How a family writes the tool calls that it makes."""

    NONE = "none"
    HERMES = "hermes"
    """`<tool_call>{"name": …, "arguments": …}</tool_call>`"""
    LLAMA = "llama"
    """`{"name": …, "parameters": …}` or `[name(key="value")]`, after `<|python_tag|>` or as the whole answer."""
    LLAMA4 = "llama4"
    """The same, or between `<|python_start|>` and `<|python_end|>`."""
    MISTRAL = "mistral"
    """`[TOOL_CALLS]`, then a JSON list or, from Tekken on, `name[ARGS]{…}`."""
    GEMMA = "gemma"
    """`<|tool_call>call:name{…}<tool_call|>`"""
    PHI = "phi"
    """`<|tool_call|>[…]<|/tool_call|>`"""
    DEEPSEEK = "deepseek"
    """A list between tokens for the begin and the end of tool calls, of each call, and before its arguments."""
    HARMONY = "harmony"
    """`<|channel|>commentary to=functions.name <|constrain|>json<|message|>{…}<|call|>`"""
    KIMI_K3 = "kimi_k3"
    """`<|open|>call tool="name" index="1"<|sep|>…<|close|>call<|sep|>` in a section"""
    COHERE = "cohere"
    """`<|START_ACTION|>[{"tool_name": …, "parameters": …}]<|END_ACTION|>`"""
    GRANITE = "granite"
    """`<|tool_call|>[{"name": …, "arguments": …}]`"""


THINK = think("<think>", "</think>")
"""The markers of most families; a model that knows neither these nor any others does not mark reasoning."""
OWN = (
    think("<longcat_think>", "</longcat_think>"),
    think("<seed:think>", "</seed:think>"),
    think("<mm:think>", "</mm:think>"),
    think("<|think:start|>", "<|think:end|>"),
)
"""Markers that single models have, whatever their family is: LongCat, Seed, MiniMax M3, and others."""


@dataclass(frozen=True, slots=True)
class ModelAdapter:
    """A model family, as far as the model's own files do not tell.

    `end_of_turn` are tokens that end an answer, where the vocabulary has them. `template` is the family's
    chat template, for a model that brings none. `markup` and `tool_format` say how its output is marked.
    `thinking_parts`: the template reads an assistant's reasoning as a part of its content, of type "thinking".
    """

    name: str
    end_of_turn: tuple[str, ...] = ()
    template: str | None = None
    markup: Markup | None = THINK
    tool_format: ToolFormat = ToolFormat.NONE
    thinking_parts: bool = False

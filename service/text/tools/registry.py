"""Which way to write tool calls a model has: explicit tables, asked in order."""

# ruff: noqa: RUF001 - the bars in DeepSeek's tokens are fullwidth ones

import re
from collections.abc import Container

from service.text.tools.deepseek import DEEPSEEK, DEEPSEEK_V31
from service.text.tools.elements import DEEPSEEK_V32, KIMI_K3, MINICPM5, MINIMAX_M2, MUSE_SPARK, QWEN3_CODER, SEED
from service.text.tools.gemma import FUNCTION_GEMMA, GEMMA4
from service.text.tools.glm import GLM, LONGCAT
from service.text.tools.harmony import HARMONY
from service.text.tools.hermes import HERMES
from service.text.tools.kimi_k2 import KIMI_K2
from service.text.tools.lists import COHERE, GRANITE, NEMOTRON, PHI
from service.text.tools.llama import LLAMA, LLAMA4
from service.text.tools.mistral import MISTRAL, MISTRAL_ARGS
from service.text.tools.pythonic import PYTHONIC
from service.text.tools.syntax import ToolSyntax

TEMPLATES = (
    (("<seed:tool_call>",), SEED),
    (("<minimax:tool_call>",), MINIMAX_M2),
    (("<|tool_call>", "<tool_call|>"), GEMMA4),
    (("<start_function_call>",), FUNCTION_GEMMA),
    (("<longcat_tool_call>",), LONGCAT),
    (("<arg_key>",), GLM),
    (("<|tool_list_start|>",), PYTHONIC),
    (("<|tool_call_start|>",), PYTHONIC),
    (("<tool_call>\\n<function=",), QWEN3_CODER),
    (("<tool_call>\n<function=",), QWEN3_CODER),
    (("<|tool_calls_section_begin|>",), KIMI_K2),
    (('<function name="', '<param name="'), MINICPM5),
    (("[TOOL_CALLS]", "[ARGS]"), MISTRAL_ARGS),
    (("[TOOL_CALLS]",), MISTRAL),
    (("<atem:function_calls>",), MUSE_SPARK),
    (("<｜DSML｜",), DEEPSEEK_V32),
    (("<｜tool▁calls▁begin｜>", "```json"), DEEPSEEK),
    (("<｜tool▁calls▁begin｜>",), DEEPSEEK_V31),
    (("<|START_ACTION|>",), COHERE),
    (("<TOOLCALL>",), NEMOTRON),
    (("to=functions.",), HARMONY),
    (("<tool_call>",), HERMES),
)
"""Strings of a chat template, all of them, by which it shows calls. The telling ones first."""

FORMATS = {
    "hermes": HERMES,
    "llama": LLAMA,
    "llama4": LLAMA4,
    "mistral": MISTRAL,
    "gemma": GEMMA4,
    "phi": PHI,
    "deepseek": DEEPSEEK,
    "harmony": HARMONY,
    "granite": GRANITE,
    "kimi_k3": KIMI_K3,
    "cohere": COHERE,
}
"""By the name of a family's format, for templates that know tools and do not show how they are called."""

VOCABULARIES = (
    (("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"), KIMI_K3),
    (("<|tool_call_start|>", "<|tool_call_end|>"), PYTHONIC),
)
"""Added tokens, all of them, that a model has only for its calls."""

_READS_TOOLS = re.compile(r"\{[{%](?:(?![%}]\}).)*?\btools\b", re.DOTALL)


def knows_tools(template: str) -> bool:
    """Whether a chat template shows tools; for one that does not, they are written into the system prompt."""
    return bool(_READS_TOOLS.search(template))


def tool_syntax(tool_format: str, *, template: str, vocabulary: Container[str]) -> ToolSyntax:
    """Return how a model writes calls: by its template, then by its vocabulary, then by its family's `tool_format`.

    Where nothing tells, and where the template knows no tools, it is Hermes', which the system prompt explains then.
    """
    for marks, syntax in TEMPLATES:
        if all(mark in template for mark in marks):
            return syntax
    if not knows_tools(template):
        return HERMES
    for tokens, syntax in VOCABULARIES:
        if all(token in vocabulary for token in tokens):
            return syntax
    syntax = FORMATS.get(tool_format, HERMES)
    return MISTRAL_ARGS if syntax is MISTRAL and "[ARGS]" in vocabulary else syntax

"""Tools in plain text, for models whose template knows none: the format that Hermes made common.

Format: https://github.com/NousResearch/Hermes-Function-Calling
"""

import json
from collections.abc import Iterable, Mapping, Sequence

_INTRODUCTION = (
    "You have these tools, one JSON object a line, each with the JSON Schema of its arguments:\n"
    "<tools>\n{tools}\n</tools>\n\n"
    "To use a tool, write its name and its arguments as JSON between tags, several times for several calls:\n"
    '<tool_call>\n{{"name": "the name", "arguments": {{"an argument": "its value"}}}}\n</tool_call>\n\n'
    "What the tools give back comes in the next message, between <tool_response> tags."
)


def introduction(tools: Iterable[Mapping[str, object]]) -> str:
    """Return instructions for a system message; `tools` are in OpenAI's shape."""
    return _INTRODUCTION.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))


def calls(content: str, named: Sequence[tuple[str, object]]) -> str:
    """Return an assistant's message with calls, given as names and arguments."""
    written = (json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False) for name, arguments in named)
    return "\n".join(filter(None, [content, *(f"<tool_call>\n{call}\n</tool_call>" for call in written)]))


def result(content: str) -> str:
    """Return what a call gave back."""
    return f"<tool_response>\n{content}\n</tool_response>"

"""Tools in plain text, read back by the reader of their format."""

import json

from service.adapters import tool_prompt
from service.text.tools.hermes import HERMES
from service.text.tools.syntax import Arguments, Began, Plain
from service.types import Tool


def test_the_introduction_has_every_tool_on_a_line() -> None:
    """As JSON, whatever its texts are."""
    tools = [{"name": "a", "description": "{braces} und\nUmlaute: ä"}, {"name": "b"}]
    text = tool_prompt.introduction(tools)
    lines = text[text.index("<tools>\n") : text.index("\n</tools>")].splitlines()[1:]
    assert [json.loads(line) for line in lines] == tools
    assert "ä" in text


def test_calls_are_written_as_they_are_read() -> None:
    """Names and arguments come back, after the words beside them."""
    named = [("look", {"word": "Köln </tool>"}), ("rest", {})]
    reader = HERMES.reader([Tool(name, "", "{}") for name, _ in named])
    events = [*reader.feed(tool_prompt.calls("I look.", named)), *reader.flush()]
    assert [event.name for event in events if isinstance(event, Began)] == ["look", "rest"]
    arguments = "".join(event.text for event in events if isinstance(event, Arguments))
    assert arguments == '{"word": "Köln </tool>"}{}'
    assert "".join(event.text for event in events if isinstance(event, Plain)).strip() == "I look."


def test_calls_without_words_begin_at_once() -> None:
    """No line is empty."""
    assert tool_prompt.calls("", [("f", {})]).startswith("<tool_call>\n")

"""Pieces of grammars: llguidance reads them as the texts and patterns that they were made of."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.text import lark
from tests.service.text.grammars import drawn, problem, takes
from tests.service.text.tokenizers import HARMONY, byte_level

many = settings(deadline=None, max_examples=60)


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12))
@many
def test_any_text_is_quoted(text: str) -> None:
    """Quotes, backslashes, control characters and what is not ASCII are the text itself."""
    grammar = f"start: {lark.quoted(text)}"
    assert problem(grammar, byte_level()) == ""
    assert drawn(grammar, byte_level(), 1)[1]
    ids, _ = drawn(grammar, byte_level(), 1)
    assert byte_level().decode(ids, skip_special=False) == text


@pytest.mark.parametrize(
    ("expression", "good", "bad"),
    [
        ("a/b", "a/b", "ab"),
        (r"a\/b", "a/b", "a\\/b"),
        (r"\\/", "\\/", "/"),
        (r"\\\/", "\\/", "/"),
        ("a\nb", "a\nb", "anb"),
        ("[/\r]", "\r", "r"),
        ("^a$|^b$", "b", "ab"),
        ("# no comment", "# no comment", ""),
        (" a ", " a ", "a"),
        ("/* a", "//// a", "a"),
    ],
)
def test_a_pattern_means_what_it_says(expression: str, good: str, bad: str) -> None:
    """Slashes, line breaks and anchors are no trouble, and it matches as a whole."""
    assert re.fullmatch(expression, good)
    grammar = f"start: {lark.pattern(expression)}"
    assert (takes(grammar, good), takes(grammar, good + "x"), takes(grammar, bad)) == (True, False, False)


def test_markers_are_tokens_where_they_are_tokens() -> None:
    """Special or not; the rest is text."""
    tokenizer = byte_level(*HARMONY)
    channel, message = tokenizer.token_id("<|channel|>"), tokenizer.token_id("<|message|>")
    assert lark.literal(tokenizer, "<|channel|>final<|message|>") == f'<[{channel}]> "final" <[{message}]>'
    assert lark.literal(tokenizer, "<think>") == f"<[{tokenizer.token_id('<think>')}]>"
    assert lark.literal(tokenizer, '<a "b">') == r'"<a \"b\">"'


def test_a_text_without_others() -> None:
    """Parts of them are let through, and they themselves nowhere."""
    grammar = f"start: TEXT\nTEXT: {lark.without('</a>', 'b/b')}"
    assert all(takes(grammar, text) for text in ("x", "</a", "/a>", "b/", "<\n/a>"))
    assert not any(takes(grammar, text) for text in ("</a>", "x</a>x", "\nb/b"))


@pytest.mark.parametrize(("form", "known"), [("password", True), ("path", True), ("idn-email", False), ("date", True)])
def test_formats_that_no_standard_knows_are_notes(form: str, known: bool) -> None:
    """Those of JSON Schema are enforced or refused."""
    schema = {"properties": {"format": {"type": "string", "format": form}, "x": {"enum": [{"format": "odd"}]}}}
    rule = lark.json_text(schema)
    assert (problem(f"start: {rule}", byte_level()) == "") is known
    assert '"enum": [{"format": "odd"}]' in rule
    assert ('"format": "date"' in rule) is (form == "date")

"""The bytes that single tokens stand for."""

import pytest

from service.text.tokenizer import Tokenizer
from tests.service.text.tokenizers import byte_fallback, byte_level, byte_tokens, nested_byte_level, of_kind

TEXT = "the sky \n日é👍 1,2"


def joined(tokenizer: Tokenizer, tokens: list[int]) -> bytes:
    return b"".join(tokenizer.bytes_of[number] for number in tokens)


@pytest.mark.parametrize("tokenizer", [byte_level(), nested_byte_level()], ids=["byte_level", "nested_byte_level"])
def test_byte_level_tokens_are_the_bytes_of_the_text(tokenizer: Tokenizer) -> None:
    """Parts of a character too."""
    for tokens in (tokenizer.encode(TEXT, add_special=False), byte_tokens(byte_level(), TEXT)):
        assert joined(tokenizer, tokens) == TEXT.encode()


def test_sentencepiece_tokens_are_the_bytes_of_the_text() -> None:
    """As they are in the middle of one: with the space that is stripped from its start, and bytes as bytes."""
    tokenizer = byte_fallback()
    tokens = tokenizer.encode("the the  a日👍", add_special=False)
    assert joined(tokenizer, tokens) == " the the  a日👍".encode()
    assert [tokenizer.bytes_of[number] for number in byte_tokens(tokenizer, "é\n")] == [b"\xc3", b"\xa9", b"\n"]


@pytest.mark.parametrize(
    ("kind", "name", "data"),
    [("unigram", "▁", b" "), ("word_piece", "is", b" is"), ("word_piece", "##e", b"e"), ("byte_level", "Ġ", b" ")],
)
def test_a_token_has_what_it_adds_to_a_text(kind: str, name: str, data: bytes) -> None:
    """Whatever it is called in the vocabulary."""
    tokenizer = of_kind(kind)
    number = tokenizer.token_id(name)
    assert number is not None
    assert tokenizer.bytes_of[number] == data


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback", "unigram", "word_piece"])
def test_special_tokens_have_their_names(kind: str) -> None:
    """They are tokens that may be likely, and shown as such."""
    tokenizer = of_kind(kind)
    number = tokenizer.token_id("</s>")
    assert number is not None
    assert tokenizer.bytes_of[number].strip() == b"</s>"


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_ids_beyond_the_vocabulary_have_no_bytes(kind: str) -> None:
    """Models pad theirs."""
    assert [of_kind(kind).bytes_of[number] for number in (-1, 1 << 20, 1 << 40)] == [b"", b"", b""]

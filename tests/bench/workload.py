"""What every side is asked: one prompt of a set length, greedy, past every stop token."""

from pathlib import Path

from tokenizers import Tokenizer

PROMPT_TOKENS = 32
_TEXT = (
    "Describe, in the order in which they happen, the steps by which light from the sun becomes the colour of a clear "
    "sky at noon, and say why the same steps give red at dusk."
)


def prompt_text(tokenizer_file: str | Path) -> str:
    """The prompt as text that encodes to PROMPT_TOKENS tokens."""
    words = Tokenizer.from_file(str(tokenizer_file))
    return words.decode(words.encode(_TEXT).ids[:PROMPT_TOKENS])


def prompt_ids(tokenizer_file: str | Path) -> list[int]:
    """The prompt as token ids."""
    words = Tokenizer.from_file(str(tokenizer_file))
    return words.encode(prompt_text(tokenizer_file)).ids

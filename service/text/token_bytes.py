"""The bytes that single tokens stand for."""

import re

import tokenizers

MAX_ID = 2**32 - 1
"""The library takes no others."""
_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")


class TokenBytes(dict[int, bytes]):
    """The bytes of a token, found the first time that it is met. Ids that the tokenizer does not know have none.

    Under a ByteLevel decoder, the bytes of a stream of tokens are those of each, joined. Other decoders look at
    neighbours; there a token has the bytes that it adds in the middle of a text.
    """

    def __init__(self, inner: tokenizers.Tokenizer, *, byte_level: bool) -> None:
        """`byte_level`: the tokenizer's decoder is a ByteLevel one."""
        super().__init__()
        self._inner = inner
        self._byte_level = byte_level

    def __missing__(self, number: int) -> bytes:
        token = self._inner.id_to_token(number) if 0 <= number <= MAX_ID else None
        if token is None:
            return b""
        self[number] = data = _of_letters(token) if self._byte_level else self._of_neighbours(number, token)
        return data

    def _of_neighbours(self, number: int, token: str) -> bytes:
        if byte := byte_of(token):
            return byte
        # Twice, since a decoder may treat the start of a text in its own way: SentencePiece strips a space there.
        once, twice = (self._inner.decode([number] * times, skip_special_tokens=False) for times in (1, 2))
        return twice.removeprefix(once).encode()


def byte_of(token: str) -> bytes:
    """The byte that a token such as `<0x0A>` stands for; none for other tokens."""
    found = _BYTE_TOKEN.fullmatch(token)
    return bytes.fromhex(found[1]) if found else b""


def _of_letters(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF[character] for character in token)
    except KeyError:
        # An added token may hold characters that stand for no byte: the decoder then takes it as it is.
        return token.encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable Latin-1 stands for itself, the rest follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(0x100) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(rest)}


_BYTE_OF = _byte_alphabet()

"""Incremental detokenizing: tokens in, whole characters out as soon as they are final."""

import codecs
from typing import Protocol

from service.text.token_bytes import byte_of
from service.text.tokenizer import Tokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_MAX_WINDOW = 32
"""Tokens that are decoded again for each new one, at most."""


class _Decoder(Protocol):
    """Turns visible tokens into text."""

    def add(self, token: int) -> str:
        """Text that became final with `token`."""
        ...

    def flush(self) -> str:
        """Text of what is left over."""
        ...


class Detokenizer:
    """The text of a stream of tokens. What it returns, joined, is the tokenizer's `decode` of them all.

    Special tokens are skipped, those in `shown` excepted. A byte that is no part of a character
    becomes U+FFFD. The library's byte fallback spoils a whole run of bytes for one bad byte in it;
    here the characters before and after the bad byte are kept, since they are sent at once.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special: bool = True, shown: frozenset[int] = frozenset()) -> None:
        self._skipped = tokenizer.special_ids - shown if skip_special else frozenset()
        stages = [stage for stage in tokenizer.decoders if stage != "Fuse"]
        self._decoder: _Decoder = _ByteLevel(tokenizer) if stages == ["ByteLevel"] else _Window(tokenizer)

    def add(self, token: int, *, show: bool = False) -> str:
        """Text that became final with `token`, which `show` makes visible even where it is special."""
        if token in self._skipped and not show:
            return ""
        return self._decoder.add(token)

    def flush(self) -> str:
        """Text of the bytes that were held back; tokens may follow."""
        return self._decoder.flush()


class _ByteLevel:
    """Every token is some bytes, whatever stands beside it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._bytes = tokenizer.bytes_of
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = False

    def add(self, token: int) -> str:
        data = self._bytes[token]
        if not self._pending and data.isascii():
            return data.decode("ascii")
        text = self._utf8.decode(data)
        self._pending = bool(self._utf8.getstate()[0])
        return text

    def flush(self) -> str:
        self._pending = False
        return self._utf8.decode(b"", final=True)


class _Window:
    """Decodes the last few tokens again for each new one: what they add to the text may depend on their neighbours.

    The window opens with tokens whose text is out already, so that what a decoder does to the
    start of a text (SentencePiece strips a space there) is not done in the middle of it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._byte_fallback = "ByteFallback" in tokenizer.decoders
        self._window: list[int] = []
        self._fresh = 0
        """Tokens at the window's end that were not yet part of a final text."""
        self._sent = 0
        """Characters of the window's text that are out."""
        self._run: list[int] = []
        """Byte tokens that do not make up a character yet, and their bytes."""
        self._bytes = b""
        self._spoiled = False
        """Whether the window ends with a bad byte, which would spoil a character decoded beside it."""

    def add(self, token: int) -> str:
        name = self._tokenizer.token(token)
        if name is None:
            return ""
        if self._byte_fallback and (byte := byte_of(name)):
            return self._add_byte(token, byte)
        return self._bad_bytes() + self._grow([token])

    def flush(self) -> str:
        text = self._decode(self._window)[self._sent :]
        self._sent += len(text)
        return text + self._bad_bytes()

    def _add_byte(self, token: int, byte: bytes) -> str:
        text = ""
        if self._run and not _starts_character(self._bytes + byte):
            text = self._bad_bytes()
        self._run.append(token)
        self._bytes += byte
        if not _starts_character(self._bytes):
            return text + self._bad_bytes()
        try:
            character = self._bytes.decode()
        except UnicodeDecodeError:
            return text
        run, self._run, self._bytes = self._run, [], b""
        return text + (self._put(character, run) if self._spoiled else self._grow(run))

    def _bad_bytes(self) -> str:
        """Give up on the bytes held back."""
        if not self._run:
            return ""
        text, last = _REPLACEMENT * len(self._run), self._run[-1]
        self._run, self._bytes = [], b""
        self._put(text, [last])
        self._spoiled = True
        return text

    def _put(self, text: str, tokens: list[int]) -> str:
        """Send `text` as it is and go on from `tokens`."""
        self._restart(tokens)
        return text

    def _grow(self, tokens: list[int]) -> str:
        self._window += tokens
        self._fresh += len(tokens)
        text = self._decode(self._window)
        # Only a decoder that joins bytes ends like this while a character is incomplete.
        incomplete = not self._byte_fallback and text.endswith(_REPLACEMENT)
        final = len(text) - incomplete
        piece = text[self._sent : final]
        self._sent = max(self._sent, final)
        if not incomplete or len(self._window) > _MAX_WINDOW:
            self._advance(incomplete)
        return piece

    def _advance(self, incomplete: bool) -> None:
        """Forget what is not needed to decode the next token: one that shows is, spaces alone are not enough."""
        fresh, self._fresh = self._window[-self._fresh :], 0
        if self._decode(fresh).strip():
            self._restart(fresh[-_MAX_WINDOW // 2 :])
        elif len(self._window) > _MAX_WINDOW:
            self._restart(self._window[-_MAX_WINDOW // 2 :])
        else:
            return
        self._sent -= incomplete

    def _restart(self, tokens: list[int]) -> None:
        self._window = tokens
        self._fresh = 0
        self._sent = len(self._decode(tokens))
        self._spoiled = False

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special=False)


def _starts_character(data: bytes) -> bool:
    """Whether `data` is a character in UTF-8 or the beginning of one."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True

"""Finds the tokens of a text in it, as both arrive."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mlx_grpc.v1.generation_pb2 import TokenLogprob

_WINDOW = 64
"""Bytes of text that a token may be found ahead by."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}".encode()


@dataclass(frozen=True, slots=True)
class Placed:
    """A token, and the character of the text that it begins at."""

    token: TokenLogprob
    offset: int


class Places:
    """Gives the tokens of one choice as soon as their text is there, each with its place in it.

    Tokens may come before their text, which the service holds back while it may be the beginning of a
    stop string. Those that have no text, as special tokens have none, are where they stand between the others.
    """

    def __init__(self) -> None:
        self._text = b""
        self._at = 0
        """Where in `_text` the next token is looked for."""
        self._characters = 0
        """Those that begin before that."""
        self._over = b""
        """What is left of the last token, where its text had not all come."""
        self._waiting: deque[TokenLogprob] = deque()

    def add(self, text: str, tokens: Iterable[TokenLogprob]) -> list[Placed]:
        """Take more text and tokens; the tokens that begin inside the text so far and were not given yet."""
        if text:
            self._text = self._text[self._at :] + text.encode()
            self._at = 0
            self._continue()
        self._waiting.extend(tokens)
        placed = []
        while self._waiting and self._at < len(self._text):
            token = self._waiting.popleft()
            length = self._find(token.token)
            placed.append(Placed(token, self._offset()))
            self._advance(length)
        return placed

    def rest(self) -> list[Placed]:
        """The tokens that are left over, which have no text."""
        left = [Placed(token, self._offset()) for token in self._waiting]
        self._waiting.clear()
        return left

    def _continue(self) -> None:
        """Skip the text of the last token that had not come with it."""
        over, self._over = self._over, b""
        if self._text.startswith(over):
            self._advance(len(over))
        elif over.startswith(self._text):
            self._over = over[len(self._text) :]
            self._advance(len(self._text))

    def _find(self, token: bytes) -> int:
        """Go to where the token begins, and tell the length of its text."""
        # A decoder may drop the space that a text begins with.
        for data in (token, token.removeprefix(b" ")):
            if self._text.startswith(data, self._at):
                return len(data)
            left = len(self._text) - self._at
            if len(data) > left and data.startswith(self._text[self._at :]):
                self._over = data[left:]
                return left
        found = self._text.find(token, self._at, self._at + _WINDOW + len(token))
        if found >= 0:
            self._advance(found - self._at)
            return len(token)
        # Either bytes that are no character, or a token without text.
        return len(_REPLACEMENT) if self._text.startswith(_REPLACEMENT, self._at) else 0

    def _advance(self, length: int) -> None:
        self._characters += sum(map(_begins_character, self._text[self._at : self._at + length]))
        self._at += length

    def _offset(self) -> int:
        inside = self._at < len(self._text) and not _begins_character(self._text[self._at])
        return self._characters - inside


def _begins_character(byte: int) -> bool:
    return byte & 0xC0 != 0x80  # noqa: PLR2004 - UTF-8's other bytes are 10xxxxxx

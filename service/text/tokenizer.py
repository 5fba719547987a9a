"""A model's tokenizer: text to token ids and back."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from service.errors import ContextTooLong, SetupError
from service.text.token_bytes import MAX_ID, TokenBytes


class Tokenizer:
    """Wraps a fast tokenizer. Ids that it does not know decode to nothing: models pad their vocabulary."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        """Take over `inner`; a truncation or padding that it was saved with is switched off."""
        inner.no_truncation()
        inner.no_padding()
        self._inner = inner
        added = inner.get_added_tokens_decoder()
        self._added = {token.content: number for number, token in added.items()}
        self._specials = {token.content: number for number, token in added.items() if token.special}
        self.special_ids = frozenset(self._specials.values())
        longest_first = sorted(filter(None, self._added), key=len, reverse=True)
        self._added_in = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        vocabulary = inner.get_vocab()
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        """One more than the highest id."""
        self.decoders = _decoders(inner)
        """The decoder's stages by type, in order."""
        knows_all_bytes = {"ByteLevel", "ByteFallback"} & set(self.decoders)
        self._longest = max(map(len, vocabulary), default=0) if knows_all_bytes else 0
        """Most characters that one token stands for; 0 where a token for the unknown may stand for any number."""
        self._inside: dict[frozenset[str], frozenset[int]] = {}
        self.bytes_of = TokenBytes(inner, byte_level="ByteLevel" in self.decoders)

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer.json. Raises SetupError when there is none that can be read."""
        try:
            text = Path(path).read_text(encoding="utf-8")
            return cls(tokenizers.Tokenizer.from_str(text))
        # The library raises plain Exception for a file that it cannot make sense of.
        except Exception as error:
            raise SetupError(f"cannot read the tokenizer {path}: {error}") from error

    def encode(self, text: str, *, add_special: bool, limit: int | None = None) -> list[int]:
        """Token ids of `text`. Special tokens written in it are parsed; `add_special` adds the tokenizer's own.

        Raises ContextTooLong for a text that is so long that it cannot have `limit` tokens or fewer.
        """
        if limit is not None and self._longest and (fewest := len(text) // self._longest) > limit:
            raise ContextTooLong(limit, fewest, counted=False)
        # A batch of one, since the library holds the interpreter's lock while it encodes a single text.
        (encoding,) = self._inner.encode_batch_fast([_without_surrogates(text)], add_special_tokens=add_special)
        return encoding.ids

    def decode(self, ids: Sequence[int], *, skip_special: bool) -> str:
        """Text of `ids`, without the special tokens if `skip_special`."""
        known = [number for number in ids if 0 <= number <= MAX_ID]
        return self._inner.decode(known, skip_special_tokens=skip_special)

    def token_id(self, token: str) -> int | None:
        """Return the id of a token given by its text in the vocabulary."""
        return self._inner.token_to_id(token)

    def token(self, number: int) -> str | None:
        """Text of a token in the vocabulary, such as `Ġthe` or `<0x0A>`."""
        return self._inner.id_to_token(number) if 0 <= number <= MAX_ID else None

    def __contains__(self, text: object) -> bool:
        """Whether `text` is one added token: such a token is never split, whatever stands beside it."""
        return text in self._added

    def parts(self, text: str) -> list[int | str]:
        """`text`, cut into the ids of the added tokens that are written in it and what stands between them."""
        parts: list[int | str] = []
        end = 0
        for found in self._added_in.finditer(text) if self._added_in else ():
            parts += [text[end : found.start()], self._added[found[0]]]
            end = found.end()
        return [part for part in (*parts, text[end:]) if part != ""]

    def specials_inside(self, texts: frozenset[str]) -> frozenset[int]:
        """Ids of the special tokens that are written in one of `texts`."""
        if texts not in self._inside:
            self._inside[texts] = frozenset(
                number for token, number in self._specials.items() if any(token in text for text in texts)
            )
        return self._inside[texts]


def _decoders(inner: tokenizers.Tokenizer) -> tuple[str, ...]:
    if inner.decoder is None:
        return ()
    decoder = json.loads(inner.decoder.__getstate__())
    return tuple(stage["type"] for stage in decoder.get("decoders", [decoder]))


def _without_surrogates(text: str) -> str:
    """Replace halves of surrogate pairs: a JSON string may hold one, and it is no character."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

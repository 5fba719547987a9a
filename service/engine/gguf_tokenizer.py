"""The tokenizer that a GGUF file describes: byte-level BPE ("gpt2") or SentencePiece's BPE ("llama").

How text is split before the merges follows llama.cpp's table, by the names that its converter writes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from service.engine.gguf_header import GgufError, Metadata

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
"""Token types."""
_SPACE = "▁"
"""SentencePiece's stand-in for a space."""
_TURN_ENDS = {"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"}
"""Tokens that end an answer in any model that has them; metadata often names only one."""

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SUFFIXES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class _Splitting:
    """How text is cut before the merges: by each pattern in turn."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    """Whether a piece that is a token needs no merges."""
    adds_bos: bool = False
    """Where the metadata does not say."""


_LLAMA3 = _Splitting((rf"{_SUFFIXES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}",), True, True)
_QWEN2 = _Splitting((rf"{_SUFFIXES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}",))
_SINGLE_DIGITS = _Splitting((r"\p{N}", _GPT2))
_SPLITTINGS = {
    "default": _Splitting((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    "gpt-2": _Splitting((_GPT2,)),
    "olmo": _Splitting((_GPT2,)),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3"), _LLAMA3),
    "tekken": _Splitting((_TEKKEN,), True, True),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "minerva-7b"), _SINGLE_DIGITS),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _QWEN2),
    "deepseek-coder": _Splitting((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")),
}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a GGUF file, and what is special of them."""

    metadata: Metadata
    tokens: list[str]
    kinds: list[int]

    @classmethod
    def of(cls, metadata: Metadata) -> "Vocabulary":
        """Raises GgufError for a tokenizer that is not supported or is incomplete."""
        tokens = _list(metadata, "tokens")
        kinds = metadata.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
        vocabulary = cls(metadata, tokens, kinds)
        if not isinstance(kinds, list) or len(kinds) != len(tokens):
            raise GgufError("has not as many token types as tokens")
        _list(metadata, "scores" if vocabulary.is_sentencepiece else "merges")
        return vocabulary

    @property
    def is_sentencepiece(self) -> bool:
        """Whether it is one of SentencePiece, and not byte-level BPE. Raises GgufError for any other."""
        if (model := self.metadata.get("tokenizer.ggml.model")) not in ("gpt2", "llama"):
            raise GgufError(f"has a tokenizer of type {model!r}, and only gpt2 and llama are supported")
        return bool(model == "llama")

    @property
    def splitting(self) -> _Splitting:
        """How text is cut. Raises GgufError for a way that is not supported."""
        if (name := self.metadata.get("tokenizer.ggml.pre", "default")) not in list(_SPLITTINGS):
            raise GgufError(f"has a tokenizer that cuts text as {name!r} does, which is not supported")
        return _SPLITTINGS[name]

    def special(self, name: str) -> int | None:
        """The id of a special token, such as bos, if there is one."""
        default = {"bos": 1, "eos": 2, "unknown": 0}.get(name) if self.is_sentencepiece else None
        token = self.metadata.get(f"tokenizer.ggml.{name}_token_id", default)
        return token if isinstance(token, int) and 0 <= token < len(self.tokens) else None

    @property
    def stop_ids(self) -> list[int]:
        """The tokens that end an answer."""
        named = {self.special(name) for name in ("eos", "eot", "eom")} - {None}
        ends = {
            place
            for place, (token, kind) in enumerate(zip(self.tokens, self.kinds, strict=True))
            if token in _TURN_ENDS and kind in {_CONTROL, _USER_DEFINED}
        }
        return sorted({place for place in named | ends if place is not None})

    def tokenizer(self) -> Tokenizer:
        """The tokenizer itself."""
        made = self._sentencepiece() if self.is_sentencepiece else self._byte_level()
        made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in self._of(_CONTROL)])
        made.add_tokens([AddedToken(token, normalized=False) for token in self._of(_USER_DEFINED)])
        bos, eos = (self.special(name) if self._adds(name) else None for name in ("bos", "eos"))
        if around := [(self.tokens[token], token) for token in (bos, eos) if token is not None]:
            before = [self.tokens[bos]] if bos is not None else []
            after = [self.tokens[eos]] if eos is not None else []
            made.post_processor = processors.TemplateProcessing(
                single=[*before, "$A", *after], pair=[*before, "$A", "$B", *after], special_tokens=around
            )
        return made

    def settings(self) -> dict[str, Any]:
        """The tokenizer_config.json."""
        named = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
        special = {f"{short}_token": self.special(name) for short, name in named.items()}
        made: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        made |= {name: self.tokens[token] for name, token in special.items() if token is not None}
        if template := self.metadata.get("tokenizer.chat_template"):
            made["chat_template"] = template
        return made

    def _byte_level(self) -> Tokenizer:
        merges = [(merge[:space], merge[space + 1 :]) for merge, space in self._merges()]
        splitting = self.splitting
        made = Tokenizer(models.BPE(self._vocab(), merges, ignore_merges=splitting.ignore_merges))
        cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in splitting.patterns]
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([*cuts, to_bytes])
        made.decoder = decoders.ByteLevel()
        return made

    def _sentencepiece(self) -> Tokenizer:
        unknown = self.special("unknown")
        made = Tokenizer(
            models.BPE(
                self._vocab(),
                self._scored_merges(),
                unk_token=None if unknown is None else self.tokens[unknown],
                fuse_unk=True,
                byte_fallback=True,
            )
        )
        prefixed = self.metadata.get("tokenizer.ggml.add_space_prefix", True)
        prepend = [normalizers.Prepend(_SPACE)] if prefixed else []
        made.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", _SPACE)])
        strip = [decoders.Strip(" ", 1, 0)] if prefixed else []
        made.decoder = decoders.Sequence(
            [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
        )
        return made

    def _vocab(self) -> dict[str, int]:
        return {token: place for place, token in enumerate(self.tokens)}

    def _merges(self) -> Iterator[tuple[str, int]]:
        """Each merge with the place of the space between its halves, which is not the first character."""
        for merge in _list(self.metadata, "merges"):
            yield merge, merge.index(" ", 1)

    def _scored_merges(self) -> list[tuple[str, str]]:
        """The merges that make each token of two, best score first, as SentencePiece merges what scores best."""
        scores = {
            token: score
            for token, score, kind in zip(self.tokens, _list(self.metadata, "scores"), self.kinds, strict=True)
            if kind == _NORMAL
        }
        merges = [
            (score, token[:cut], token[cut:])
            for token, score in scores.items()
            for cut in range(1, len(token))
            if token[:cut] in scores and token[cut:] in scores
        ]
        merges.sort(key=lambda merge: -merge[0])
        return [(left, right) for _, left, right in merges]

    def _of(self, kind: int) -> list[str]:
        return [token for token, is_kind in zip(self.tokens, self.kinds, strict=True) if is_kind == kind]

    def _adds(self, name: str) -> bool:
        """Whether a special token goes around what is encoded."""
        default = name == "bos" and (self.is_sentencepiece or self.splitting.adds_bos)
        return bool(self.metadata.get(f"tokenizer.ggml.add_{name}_token", default))


def _list(metadata: Metadata, name: str) -> list[Any]:
    values = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list):
        raise GgufError(f"has a tokenizer without {name}")
    return values

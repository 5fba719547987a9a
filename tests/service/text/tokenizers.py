"""Small tokenizers of the kinds that models bring, and ways to cut a text into their tokens."""

from functools import cache

import tokenizers
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from service.text.tokenizer import Tokenizer

LINES = [
    "The sky is blue because air scatters blue light more than red light.",
    "  def f(x):\n    return x + 1\n",
    "Grüße aus Köln, naïve café, 日本語のテキスト, 👩‍👩‍👧 family 👍🏽, e\u0301 combined.",
    "<think> reasoning </think> the answer is 42. STOP here.",
]
MARKERS = ["<think>", "</think>", "[THINK]", "[/THINK]"]
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
HARMONY = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>", "<|constrain|>"]
KINDS = ("byte_level", "byte_fallback", "unigram", "word_piece", "nested_byte_level")


def _added(inner: tokenizers.Tokenizer, special: tuple[str, ...]) -> Tokenizer:
    inner.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    inner.add_tokens([AddedToken(marker, normalized=False) for marker in MARKERS])
    return Tokenizer(inner)


@cache
def byte_level(*special: str) -> Tokenizer:
    """Like GPT-2's, Llama 3's and Qwen's."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(LINES, trainer)
    return _added(inner, (*SPECIAL, *special))


@cache
def nested_byte_level() -> Tokenizer:
    """A byte-level decoder behind another stage, which hides from the fast way."""
    inner = tokenizers.Tokenizer.from_str(byte_level()._inner.to_str())
    inner.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("\0\0\0", "")])
    return Tokenizer(inner)


@cache
def byte_fallback() -> Tokenizer:
    """Like Llama 2's: SentencePiece BPE with a token for each byte."""
    vocab = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    for piece in ["▁", *"abcdefghijklmnopqrstuvwxyzTSOP.,42<>/éü日", "▁▁", "▁t", "▁th", "he", "▁a", "�"]:
        vocab.setdefault(piece, len(vocab))
    merges = [("▁", "▁"), ("▁", "t"), ("▁t", "h"), ("h", "e"), ("▁", "a")]
    inner = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _added(inner, tuple(SPECIAL))


@cache
def unigram() -> Tokenizer:
    """Like T5's and XGLM's: Metaspace, no bytes."""
    inner = tokenizers.Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=150, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    inner.train_from_iterator(LINES, trainer)
    return _added(inner, tuple(SPECIAL))


@cache
def word_piece() -> Tokenizer:
    """Like BERT's: a space before every word but the first."""
    inner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.decoder = decoders.WordPiece(cleanup=True)
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)
    inner.train_from_iterator(LINES, trainer)
    return _added(inner, tuple(SPECIAL))


def of_kind(kind: str) -> Tokenizer:
    """Return the tokenizer of one of KINDS."""
    made: Tokenizer = globals()[kind]()
    return made


def byte_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return a token for each byte of `text`, the finest way to cut it."""
    names = _BYTE_NAMES if tokenizer.token_id("<0x00>") is None else [f"<0x{byte:02X}>" for byte in range(256)]
    ids = [tokenizer.token_id(names[byte]) for byte in text.encode()]
    return [number for number in ids if number is not None]


def cuts(tokenizer: Tokenizer, text: st.SearchStrategy[str]) -> st.SearchStrategy[list[int]]:
    """Cut texts into tokens at random: some parts as the tokenizer would, some byte by byte."""
    part = st.builds(
        lambda said, fine: byte_tokens(tokenizer, said) if fine else tokenizer.encode(said, add_special=False),
        text,
        st.booleans(),
    )
    return st.lists(part, max_size=5).map(lambda parts: [number for part in parts for number in part])


def _byte_names() -> list[str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    names = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        names.setdefault(byte, chr(0x100 + len(names) - len(printable)))
    return [names[byte] for byte in range(256)]


_BYTE_NAMES = _byte_names()

"""The tokenizer of a GGUF file reads text as the model's own does."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from service.engine.gguf_header import GgufError
from service.engine.gguf_tokenizer import Vocabulary
from tests import tiny
from tests.service.engine import gguf_files

TEXTS = (
    "The sky is blue because the air scatters blue light.",
    "  two spaces,\n\nlines\tand tabs \n",
    "12345 and 6.78, it's HERE",
    "こんにちは 👋🏽 naïve",
    "",
    " ",
)


@pytest.fixture
def words() -> Tokenizer:
    return tiny.tokenizer(special=tiny.SPECIAL)


def made(words: Tokenizer, **changes: Any) -> Tokenizer:
    return Vocabulary.of(gguf_files.metadata(words, **changes)).tokenizer()


def test_the_tokenizer_is_the_same(words: Tokenizer) -> None:
    """Special tokens are read as such."""
    tokenizer = made(words)
    for text in (*TEXTS, "<|im_start|>user\nThe sky, こんにちは 👋🏽<|im_end|>\n"):
        assert tokenizer.encode(text).ids == words.encode(text).ids
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
    assert tokenizer.decode(tokenizer.encode("a<|im_end|>").ids) == "a"


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("smollm", "it's 1234", ["it", "'s", " ", "1", "2", "3", "4"]),
        ("gpt-2", "it's 1234  x", ["it", "'s", " 1234", " ", " x"]),
        ("llama-bpe", "IT'S 12345\n\n x", ["IT", "'S", " ", "123", "45", "\n\n", " x"]),
        ("llama-bpe", "(abc) a.b", ["(abc", ")", " a", ".b"]),
        ("qwen2", "IT'S 123\n\n x", ["IT", "'S", " ", "1", "2", "3", "\n\n", " x"]),
        ("tekken", "camelCase's 12 a/\n", ["camel", "Case", "'s", " ", "1", "2", " a", "/\n"]),
        ("deepseek-coder", "a b, 12\n", ["a", " b", ",", " ", "1", "2", "\n"]),
        ("default", "x=1234 y", ["x", "=", "123", "4", " y"]),
    ],
)
def test_text_is_cut_as_the_models_tokenizer_cuts_it(words: Tokenizer, name: str, text: str, pieces: list[str]) -> None:
    """By the name that the converter wrote."""
    cut = made(words, **{"tokenizer.ggml.pre": name}).pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in cut] == pieces


def test_an_unknown_way_of_cutting_is_refused(words: Tokenizer) -> None:
    """Another would give other tokens than those that the model has learned from."""
    with pytest.raises(GgufError, match="'viking'"):
        made(words, **{"tokenizer.ggml.pre": "viking"})


@pytest.mark.parametrize(("name", "whole"), [("llama-bpe", True), ("gpt-2", False)])
def test_a_token_may_need_no_merges(words: Tokenizer, name: str, whole: bool) -> None:
    """Llama 3's are found as they are, and others only by their merges."""
    entries = gguf_files.metadata(words)
    tokens, kinds = [*entries["tokenizer.ggml.tokens"], "zyx"], [*entries["tokenizer.ggml.token_type"], 1]
    changes = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.pre": name}
    assert (made(words, **changes).encode("zyx").tokens == ["zyx"]) == whole


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"tokenizer.ggml.add_bos_token": True}, True),
        ({"tokenizer.ggml.add_bos_token": None}, False),
        ({"tokenizer.ggml.add_bos_token": None, "tokenizer.ggml.pre": "llama-bpe"}, True),
        ({"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.pre": "llama-bpe"}, False),
    ],
    ids=str,
)
def test_a_prompt_begins_as_the_file_says(words: Tokenizer, changes: dict[str, Any], begins: bool) -> None:
    """Or, where it says nothing, as models with such a tokenizer do; without special tokens it never does."""
    tokenizer = made(words, **changes)
    assert (tokenizer.encode("a").ids[0] == words.token_to_id(tiny.END)) == begins
    assert tokenizer.encode("a", add_special_tokens=False).ids == words.encode("a").ids


def test_all_ends_of_a_turn_stop(words: Tokenizer) -> None:
    """Those that the metadata names, and those that are known by their text."""
    entries = gguf_files.metadata(words)
    size = len(entries["tokenizer.ggml.tokens"])
    tokens = [*entries["tokenizer.ggml.tokens"], "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|other|>"]
    kinds = [*entries["tokenizer.ggml.token_type"], 3, 3, 1, 3]
    changes = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds}
    vocabulary = Vocabulary.of(entries | changes | {"tokenizer.ggml.eot_token_id": size + 3})
    assert vocabulary.stop_ids == [words.token_to_id(tiny.END), size, size + 1, size + 3]


@pytest.mark.parametrize("missing", ["tokens", "merges"])
def test_a_tokenizer_that_is_not_whole_is_refused(words: Tokenizer, missing: str) -> None:
    """With what it lacks."""
    with pytest.raises(GgufError, match=f"without {missing}"):
        made(words, **{f"tokenizer.ggml.{missing}": None})


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Train a SentencePiece model as Llama 2's is: BPE with bytes to fall back on, nothing normalised."""
    library = importlib.import_module("sentencepiece")
    prefix = tmp_path_factory.mktemp("pieces") / "model"
    library.SentencePieceTrainer.train(
        sentence_iterator=iter([*tiny.LINES, *tiny.DIALOGUES.values()] * 3),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=430,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        character_coverage=0.99,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return library.SentencePieceProcessor(model_file=str(Path(f"{prefix}.model")))


def described(pieces: Any, **changes: Any) -> dict[str, Any]:
    """Describe a SentencePiece model as llama.cpp's converter does."""
    ids = range(pieces.get_piece_size())
    kinds = [2 if pieces.is_unknown(i) else 3 if pieces.is_control(i) else 6 if pieces.is_byte(i) else 1 for i in ids]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [pieces.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [pieces.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": kinds,
    } | changes


def test_sentencepiece_is_read_as_the_library_does(pieces: Any) -> None:
    """Merges by their scores, bytes for what is unknown, a space in front, and the beginning by default."""
    vocabulary = Vocabulary.of(described(pieces))
    tokenizer = vocabulary.tokenizer()
    for text in (*TEXTS, *tiny.LINES):
        expected = pieces.encode(text)
        assert tokenizer.encode(text, add_special_tokens=False).ids == expected
        assert tokenizer.encode(text).ids == [pieces.bos_id(), *expected]
        assert tokenizer.decode(expected) == text
    assert vocabulary.stop_ids == [pieces.eos_id()]
    assert vocabulary.settings()["bos_token"] == "<s>"


def test_the_space_in_front_may_be_switched_off(pieces: Any) -> None:
    """As newer models have it."""
    tokenizer = Vocabulary.of(described(pieces, **{"tokenizer.ggml.add_space_prefix": False})).tokenizer()
    plain = tokenizer.encode("The sky", add_special_tokens=False)
    assert not plain.tokens[0].startswith("▁")
    assert tokenizer.decode(plain.ids) == "The sky"


def test_scores_are_needed(pieces: Any) -> None:
    """Without them nothing says which merge comes first."""
    with pytest.raises(GgufError, match="without scores"):
        Vocabulary.of(described(pieces, **{"tokenizer.ggml.scores": None}))

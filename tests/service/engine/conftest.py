"""Tiny models, and what grammars need: a tokenizer as large as their vocabulary, and a compiler for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlx.nn.layers.base import Module
from tokenizers import Tokenizer

from service.engine.compiler import Compiler
from tests import tiny
from tests.service.engine.models import MODELS, VOCAB, llama


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Module:
    """Give a model of each kind of cache."""
    return MODELS[request.param]()


@pytest.fixture(scope="module")
def plain() -> Module:
    """Give a llama."""
    return llama()


@pytest.fixture(scope="session")
def words() -> Tokenizer:
    """Give a tokenizer with a token for each logit of the models in models.py."""
    made = tiny.tokenizer(VOCAB)
    assert made.get_vocab_size() == VOCAB
    return made


@pytest.fixture(scope="session")
def tokenizer_file(words: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write it to a file."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    words.save(str(path))
    return path


@pytest.fixture(scope="session")
def end(words: Tokenizer) -> int:
    """Give the token that ends a turn."""
    token = words.token_to_id(tiny.END)
    assert token is not None
    return token


@pytest.fixture(scope="session")
def compiler(tokenizer_file: Path, end: int) -> Iterator[Compiler]:
    """Give a compiler that knows that end."""
    made = Compiler(tokenizer_file, [end], VOCAB)
    yield made
    made.stop()

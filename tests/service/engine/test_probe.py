"""Whether rows can share a forward pass is found out before a request meets it."""

from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx_lm.models import gpt_bigcode

from service.engine.batch import merge
from service.engine.probe import Probe
from tests.service.engine.models import MODELS, VOCAB, Engine, Wrapped, alone


def bigcode() -> Module:
    """Build a model whose positions are one number for all rows, so that it cannot be batched."""
    mx.random.seed(0)
    model: Module = gpt_bigcode.Model(
        gpt_bigcode.ModelArgs(
            "gpt_bigcode",
            n_embd=32,
            n_layer=2,
            n_inner=64,
            n_head=2,
            n_positions=128,
            layer_norm_epsilon=1e-5,
            vocab_size=VOCAB,
        )
    )
    return model


class Rough(Wrapped):
    """Computes in a type that rounds differently in company."""

    def __call__(self, tokens: mx.array, cache: Any) -> mx.array:
        return (super().__call__(tokens, cache) * (1 + 0.01 * (len(tokens) > 1))).astype(mx.bfloat16)


@pytest.mark.parametrize("kind", MODELS)
def test_rows_of_each_kind_share(kind: str) -> None:
    """With the library's merged caches."""
    assert Probe(MODELS[kind]()).shares(merge)


def test_rounding_is_no_difference_in_a_rough_type() -> None:
    """Half precision differs with the shape of a batch, and is right all the same."""
    assert Probe(Rough(MODELS["llama"]())).shares(merge)


def test_a_model_that_cannot_be_batched_runs_one_by_one() -> None:
    """Each gets its answer."""
    model = bigcode()
    assert not Probe(model).shares(merge)
    engine = Engine(model)
    prompts = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    for seq, prompt in enumerate(prompts):
        engine.submit(seq, prompt, max_tokens=5, choices=2)
    engine.run()
    for seq, prompt in enumerate(prompts):
        assert engine.tokens[seq] == alone(model, prompt, max_tokens=5)
        assert len(engine.tokens[seq]) == 5

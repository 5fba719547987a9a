"""Rows of one pass with LoRAs of their own, held against each LoRA fused into the weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import quantize
from mlx_lm.models.cache import make_prompt_cache

from service.engine.frames import LoraLoaded, LoraRefused, LoraUnloaded
from service.engine.loras import Loras
from tests import tiny
from tests.service.engine.lora_files import (
    ALL,
    ATTENTION,
    Delta,
    delta,
    fuse,
    loaded,
    logits,
    mlx_config,
    peft_config,
    refused,
    told,
    write_mlx,
    write_peft,
)
from tests.service.engine.models import VOCAB, gemma, llama, sliding

CLOSE = 1e-4
TOKENS = [3, 1, 4, 1, 5, 9]


def give(loras: Loras, names: list[str]) -> list[int]:
    """Give the numbers of LoRAs."""
    numbers = [loras.number(name) for name in names]
    assert None not in numbers
    return [number for number in numbers if number is not None]


def close(given: mx.array, expected: mx.array) -> bool:
    """Say whether logits are the same, but for what float32 rounds away."""
    return bool((mx.abs(given - expected).max() <= CLOSE * max(1.0, float(mx.abs(expected).max()))).item())


def four(model: Module, folder: Path, loras: Loras, **more: Any) -> dict[str, Delta]:
    """Load LoRAs of several ranks and layers, in both formats."""
    made = {
        "a": delta(model, seed=1, rank=4, **more),
        "b": delta(model, seed=2, rank=4, **more),
        "c": delta(model, seed=3, rank=16, layers=ATTENTION),
        "d": delta(model, seed=4, rank=64, **more),
    }
    for name, factors in made.items():
        rank = next(iter(factors.values()))[0].shape[1]
        if name in "ac":
            loaded(loras, name, write_mlx(folder / name, factors, mlx_config(rank)))
        else:
            loaded(loras, name, write_peft(folder / name, factors, peft_config(rank, 2 * rank)))
    return made


@pytest.mark.parametrize("make", [llama, sliding, gemma])
def test_each_row_gets_the_logits_of_its_lora_fused(make: Callable[[], Module], tmp_path: Path) -> None:
    """In prompts and in single tokens, beside rows with others and with none."""
    model = make()
    loras = Loras(model)
    made = four(model, tmp_path, loras)
    names = ["a", "", "b", "c", "d", "a", "b"]
    for tokens in (TOKENS, TOKENS[:1]):
        with loras.of(give(loras, names)):
            given = logits(model, [tokens] * len(names))
        for row, name in enumerate(names):
            fused = fuse(make(), made[name]) if name else make()
            assert close(given[row], logits(fused, [tokens])[0])
    assert not close(given[0], given[1])


def test_decoding_follows_the_prompt(tmp_path: Path) -> None:
    """Keys and values of a row are those of its LoRA, step by step."""
    model = llama()
    loras = Loras(model)
    made = four(model, tmp_path, loras)
    names = ["d", "a", ""]
    cache, numbers = make_prompt_cache(model), give(loras, names)
    for tokens in (TOKENS, [7], [8]):
        with loras.of(numbers):
            given = model(mx.array([tokens] * 3), cache=cache)
    for row, name in enumerate(names):
        fused = fuse(llama(), made.get(name, {}))
        assert close(given[row, -1], logits(fused, [[*TOKENS, 7, 8]])[0, -1])


def test_a_pass_keeps_its_loras_until_it_is_computed(tmp_path: Path) -> None:
    """What was laid out before others were loaded, unloaded or selected is computed as it was laid out."""
    model = llama()
    loras = Loras(model)
    made = four(model, tmp_path, loras)
    with loras.of(give(loras, ["a", "d"])):
        given = logits(model, [TOKENS] * 2)
    for name in "abcd":
        loras.unload(name, tuple)
    assert len(loras.work(60)) == 4
    loaded(loras, "a", write_mlx(tmp_path / "new", delta(model, seed=9)))
    with loras.of(give(loras, ["a", "a"])):
        logits(model, [TOKENS] * 2)
    assert close(given[0], logits(fuse(llama(), made["a"]), [TOKENS])[0])
    assert close(given[1], logits(fuse(llama(), made["d"]), [TOKENS])[0])


def test_quantised_layers_have_loras(tmp_path: Path) -> None:
    """What they add is not quantised."""
    model = llama()
    quantize(model, group_size=32, bits=8)
    plain = llama()
    dense = {path: layer for path, layer in plain.named_modules() if isinstance(layer, Linear)}  # type: ignore[no-untyped-call]
    for path, layer in model.named_modules():  # type: ignore[no-untyped-call]
        if path in dense:
            dense[path].weight = mx.dequantize(layer.weight, layer.scales, layer.biases, group_size=32, bits=8)
    plain.model.embed_tokens = model.model.embed_tokens
    loras = Loras(model)
    factors = delta(llama(), seed=5)
    loaded(loras, "q", write_mlx(tmp_path, factors))
    with loras.of([0, *give(loras, ["q"])]):
        given = logits(model, [TOKENS] * 2)
    assert close(given[0], logits(plain, [TOKENS])[0])
    assert close(given[1], logits(fuse(plain, factors), [TOKENS])[0])


def test_the_head_may_have_a_lora(tmp_path: Path) -> None:
    """It is known then that the hidden states are not all that the LoRA changes."""
    model = llama()
    loras = Loras(model)
    made = {"head": delta(model, layers=(), more=("lm_head",)), "body": delta(model, seed=2)}
    for name, factors in made.items():
        loaded(loras, name, write_mlx(tmp_path / name, factors))
    head, body = give(loras, ["head", "body"])
    assert loras.change_head([0, body, head])
    assert not loras.change_head([0, body])
    with loras.of([head, body]):
        given = logits(model, [TOKENS] * 2)
    assert close(given[0], logits(fuse(llama(), made["head"]), [TOKENS])[0])
    assert close(given[1], logits(fuse(llama(), made["body"]), [TOKENS])[0])


def test_unloading_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    """The last LoRA takes everything with it; those that are left change nothing of what they did."""
    model = llama()
    kinds = [type(layer) for _, layer in model.named_modules()]  # type: ignore[no-untyped-call]
    plain = logits(model, [TOKENS])
    loras = Loras(model)
    made = four(model, tmp_path, loras)
    for left in ("bcd", "bd", "d"):
        name = next(name for name in made if name not in left)
        loras.unload(name, tuple)
        assert loras.work(60) == [LoraUnloaded(name)]
        assert loras.number(name) is None
        del made[name]
        for other in left:
            with loras.of(give(loras, [other])):
                assert close(logits(model, [TOKENS]), logits(fuse(llama(), made[other]), [TOKENS]))
    loras.unload("d", tuple)
    assert loras.work(60) == [LoraUnloaded("d")]
    assert [type(layer) for _, layer in model.named_modules()] == kinds  # type: ignore[no-untyped-call]
    assert mx.array_equal(logits(model, [TOKENS]), plain)
    assert tiny.parameters(model).keys() == tiny.parameters(llama()).keys()


def test_one_in_use_stays(tmp_path: Path) -> None:
    """Whether it is in use is asked when its turn has come."""
    model = llama()
    loras = Loras(model)
    loaded(loras, "a", write_mlx(tmp_path, delta(model)))
    number = loras.number("a")
    assert number
    in_use = {number}
    loras.unload("a", lambda: in_use)
    assert loras.work(60) == [LoraRefused("a", "it is in use")]
    assert loras.number("a") == number
    loras.unload("a", lambda: in_use)
    in_use.clear()
    assert loras.work(60) == [LoraUnloaded("a")]
    loras.unload("never there", lambda: in_use)
    assert loras.work(60) == [LoraUnloaded("never there")]


def test_a_name_that_comes_again_has_another_number(tmp_path: Path) -> None:
    """Nothing that was kept for the first one is found for the second."""
    model = llama()
    loras = Loras(model)
    folder = write_mlx(tmp_path, delta(model))
    loaded(loras, "a", folder)
    first = loras.number("a")
    assert told(loras, "a", folder) == LoraRefused("a", "there is a LoRA 'a' already")
    loras.unload("a", tuple)
    loras.work(60)
    loaded(loras, "a", folder)
    assert loras.number("a") not in {first, None, 0}
    assert loras.number("") == 0


def test_work_goes_on_bit_by_bit(tmp_path: Path) -> None:
    """Rows of other LoRAs, and of none, are not held up while one comes and goes, and see nothing of it."""
    model = llama()
    loras = Loras(model)
    made = four(model, tmp_path, loras)
    loras.load("late", str(write_mlx(tmp_path / "late", delta(model, seed=7))))
    loras.unload("b", tuple)
    bits, answers = 0, []
    expected = logits(fuse(llama(), made["a"]), [TOKENS])[0], logits(llama(), [TOKENS])[0]
    while loras.is_busy:
        answers += loras.work(0)
        bits += 1
        with loras.of(give(loras, ["a", ""])):
            given = logits(model, [TOKENS] * 2)
        assert close(given[0], expected[0])
        assert close(given[1], expected[1])
    assert bits > 2 * len(ALL)
    late, gone = answers
    assert isinstance(late, LoraLoaded)
    assert (late.name, late.rank, late.scale) == ("late", 4, 2.0)
    assert late.bytes == sum(a.nbytes + b.nbytes for a, b in made["a"].values())
    assert gone == LoraUnloaded("b")


class Reader(Module):
    """A layer whose weights are read by the one around it."""

    def __init__(self, inner: Any, *, flat: bool = False, mixed: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inner = inner
        self._flat, self._mixed = flat, mixed

    def __call__(self, x: mx.array) -> mx.array:
        if self._mixed:
            made: mx.array = self.inner(x.swapaxes(0, 1)).swapaxes(0, 1)
            return made
        if self._flat:
            flat: mx.array = self.inner(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
            return flat
        read: mx.array = x @ self.inner.weight.T
        return read


@pytest.mark.parametrize("mixed", [False, True])
def test_layers_that_loras_would_not_reach_are_refused(mixed: bool, tmp_path: Path) -> None:
    """A layer whose weights are read past it, or whose input has not the rows of the pass, would ignore its LoRA."""
    model = llama()
    model.layers[1].mlp.up_proj = Reader(model.layers[1].mlp.up_proj, mixed=mixed)
    factors = delta(llama())
    path = "model.layers.1.mlp.up_proj"
    factors[f"{path}.inner"] = factors.pop(path)
    loras = Loras(model)
    reason = refused(loras, write_mlx(tmp_path, factors))
    assert reason == f"layer '{path}.inner' is computed in a way that LoRAs cannot change"
    assert type(model.layers[0].self_attn.q_proj) is Linear


def test_layers_that_take_rows_in_one_line_have_loras(tmp_path: Path) -> None:
    """Their tokens are told apart by the rows of the pass."""
    model = llama()
    model.layers[1].mlp.up_proj = Reader(model.layers[1].mlp.up_proj, flat=True)
    factors = delta(llama())
    path = "model.layers.1.mlp.up_proj"
    moved = {name if name != path else f"{path}.inner": pair for name, pair in factors.items()}
    loras = Loras(model)
    loaded(loras, "a", write_mlx(tmp_path, moved))
    with loras.of([0, *give(loras, ["a"]), 0]):
        given = logits(model, [TOKENS] * 3)
    for row, fused in enumerate([llama(), fuse(llama(), factors), llama()]):
        assert close(given[row], logits(fused, [TOKENS])[0])


def _without_finite(factors: Delta) -> Delta:
    path = "model.layers.1.mlp.down_proj"
    a, b = factors[path]
    return factors | {path: (a, mx.where(mx.arange(b.shape[1]) == 3, float("nan"), b))}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda made: made | {"model.layers.2.mlp.up_proj": made["model.layers.0.mlp.up_proj"]},
            "no layer 'model.layers.2",
        ),
        (lambda made: made | {"model.norm": made["model.layers.0.mlp.up_proj"]}, "'model.norm' is a RMSNorm"),
        (
            lambda made: made | {"model.embed_tokens": made["model.layers.0.mlp.up_proj"]},
            "'model.embed_tokens' is a Emb",
        ),
        (
            lambda made: made | {"lm_head": made["model.layers.0.mlp.up_proj"]},
            f"take 64 to 128, and it takes 64 to {VOCAB}",
        ),
        (
            lambda made: made | {"model.layers.0.mlp.experts.3.up_proj": made["model.layers.0.mlp.up_proj"]},
            "'model.layers.0.mlp.experts.3.up_proj' is one of several experts",
        ),
        (_without_finite, "down_proj' have values that are not finite"),
    ],
)
def test_a_lora_that_does_not_fit_leaves_nothing(change: Callable[[Delta], Delta], reason: str, tmp_path: Path) -> None:
    """The reason names the layer; the model is as it was, and takes a good one afterwards."""
    model = llama()
    loras = Loras(model)
    factors = delta(model)
    assert reason in refused(loras, write_mlx(tmp_path / "bad", change(factors)))
    assert type(model.layers[0].self_attn.q_proj) is Linear
    assert loras.number("bad") is None
    loaded(loras, "bad", write_mlx(tmp_path / "good", factors))


def test_whatever_is_wrong_with_a_folder_is_told(tmp_path: Path) -> None:
    """In one line; the engine goes on."""
    loras = Loras(llama())
    assert "is not a folder" in refused(loras, tmp_path / "none")
    cut = write_mlx(tmp_path / "cut", delta(llama()))
    file = cut / "adapters.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "\n" not in refused(loras, cut)


def test_paths_of_a_bare_model_are_found(tmp_path: Path) -> None:
    """PEFT names layers from the model that it was given, which may be the one without a head."""
    model = llama()
    loras = Loras(model)
    factors = delta(model)
    bare = {path.removeprefix("model."): pair for path, pair in factors.items()}
    loaded(loras, "bare", write_peft(tmp_path, bare))
    with loras.of(give(loras, ["bare"])):
        given = logits(model, [TOKENS])
    assert close(given, logits(fuse(llama(), factors), [TOKENS]))


@pytest.mark.parametrize("mode", ["mxfp4", "mxfp8"])
def test_layers_in_mx_formats_have_loras(mode: str, tmp_path: Path) -> None:
    """Their scales are no floats, of which the type of the factors could be taken."""
    model = llama()
    quantize(model, group_size=32, bits=int(mode[-1]), mode=mode)
    loras, factors = Loras(model), delta(llama(), seed=5)
    plain = logits(model, [TOKENS])
    loaded(loras, "q", write_mlx(tmp_path, factors))
    with loras.of(give(loras, ["q"])):
        given = logits(model, [TOKENS])
    fused = llama()
    for path, layer in fused.named_modules():  # type: ignore[no-untyped-call]
        if isinstance(layer, Linear):
            packed = dict(model.named_modules())[path]  # type: ignore[no-untyped-call]
            layer.weight = mx.dequantize(packed.weight, packed.scales, group_size=32, bits=packed.bits, mode=mode)
    fused.model.embed_tokens = model.model.embed_tokens
    assert close(logits(fused, [TOKENS]), plain)
    assert close(logits(fuse(fused, factors), [TOKENS]), given)
    assert not close(plain, given)


def test_a_layer_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    """One name from the whole model, one from the model without its head: either would leave the other out."""
    factors = delta(llama())
    path = "model.layers.1.mlp.up_proj"
    factors[path.removeprefix("model.")] = factors[path]
    assert refused(Loras(llama()), write_mlx(tmp_path, factors)) == (
        f"layer '{path}' has factors twice, under different names"
    )


def test_a_reason_is_of_bounded_length(tmp_path: Path) -> None:
    """Whatever names a file has."""
    assert len(refused(Loras(llama()), write_mlx(tmp_path, delta(llama()), None, **{"x" * 100_000: mx.ones(1)}))) < 1000


def test_it_is_told_which_number_has_gone(tmp_path: Path) -> None:
    """Once, when nothing can be computed with it any more, and not for one that stays."""
    loras, gone = Loras(llama()), list[int]()
    loaded(loras, "a", write_mlx(tmp_path, delta(llama())))
    [number] = give(loras, ["a"])
    loras.unload("a", lambda: {number}, gone.append)
    loras.unload("none", tuple, gone.append)
    loras.work(60)
    assert gone == []
    loras.unload("a", tuple, gone.append)
    loras.work(60)
    assert gone == [number]

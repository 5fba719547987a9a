"""Sequences with LoRAs that come and go between steps, held against each LoRA fused into the weights."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from mlx.nn.layers.base import Module

from service.engine.frames import LoraLoaded, LoraRefused, LoraUnloaded, Sampling
from service.engine.memory import Footprint
from tests.service.engine.lora_files import ATTENTION, Delta, delta, fuse, mlx_config, write_mlx
from tests.service.engine.models import Engine, alone, gemma, llama, prompts, sliding

NAMES = ["a", "", "b", "c", "a", "", "head"]
"""One for each row."""


def four(model: Module) -> dict[str, Delta]:
    """Give LoRAs of different ranks and layers."""
    return {
        "a": delta(model, seed=1),
        "b": delta(model, seed=2),
        "c": delta(model, seed=3, rank=40, layers=ATTENTION),
        "head": delta(model, seed=4, layers=(), more=("lm_head",)),
    }


def put(engine: Engine, made: dict[str, Delta], folder: Path) -> None:
    """Put LoRAs on an idle engine."""
    for name, factors in made.items():
        rank = next(iter(factors.values()))[0].shape[1]
        engine.scheduler.loras.load(name, str(write_mlx(folder / name, factors, mlx_config(rank))))
    answers = []
    while engine.scheduler.loras.is_busy:
        assert engine.scheduler.leisure_s == 0
        answers += engine.scheduler.take_answers()
    assert [answer.name for answer in answers if isinstance(answer, LoraLoaded)] == list(made)


@pytest.fixture(scope="module")
def fused() -> dict[str, Module]:
    """Give a llama with each LoRA in its weights, and one with none."""
    made = four(llama())
    return {"": llama()} | {name: fuse(llama(), factors) for name, factors in made.items()}


@pytest.mark.parametrize("prefill_chunk", [7, 512])
@pytest.mark.parametrize("make", [llama, sliding, gemma])
def test_rows_with_different_loras_say_what_each_says_alone(
    make: Callable[[], Module], prefill_chunk: int, tmp_path: Path
) -> None:
    """Whichever are processed and decoded together, of whatever lengths, and whenever they join and leave."""
    made = four(make()) if make is not gemma else {name: delta(make(), seed=seed) for seed, name in enumerate("abc")}
    models = {"": make()} | {name: fuse(make(), factors) for name, factors in made.items()}
    names = [name for name in NAMES if name in models]
    engine = Engine(make(), prefill_chunk=prefill_chunk)
    put(engine, made, tmp_path)
    given = prompts(len(names), longest=200)
    for seq, (name, prompt) in enumerate(zip(names, given, strict=True)):
        engine.submit(seq, prompt, max_tokens=10 + 3 * seq, lora=name)
        if seq % 2:
            engine.step()
    engine.run()
    for seq, (name, prompt) in enumerate(zip(names, given, strict=True)):
        assert engine.tokens[seq] == alone(models[name], prompt, max_tokens=10 + 3 * seq), name
    texts = {tuple(alone(model, given[0])) for model in models.values()}
    assert len(texts) == len(models)


def test_prompts_are_scored_with_their_lora(fused: dict[str, Module], tmp_path: Path) -> None:
    """The head's LoRA counts too; so it does for the log-probabilities of what is generated."""
    engine = Engine(llama())
    put(engine, four(llama()), tmp_path)
    prompt = prompts(2, longest=60)[1]
    for seq, name in enumerate(NAMES):
        engine.submit(seq, prompt, lora=name, prompt_logprobs=2, logprobs=2)
    engine.run()
    for seq, name in enumerate(NAMES):
        expected = Engine(fused[name])
        expected.submit(0, prompt, prompt_logprobs=2, logprobs=2)
        expected.run()
        assert engine.tokens[seq] == expected.tokens[0]
        for given, said in (
            (engine.scores[seq][1:], expected.scores[0][1:]),
            (engine.logprobs[seq, 0], expected.logprobs[0, 0]),
        ):
            assert [each.logprob for each in given if each] == pytest.approx(
                [each.logprob for each in said if each], abs=1e-3
            )


def test_choices_share_the_lora(fused: dict[str, Module], tmp_path: Path) -> None:
    """All draw from it, each for itself."""
    engine = Engine(llama())
    put(engine, four(llama()), tmp_path)
    prompt, sampling = prompts(2)[1], Sampling(seed=5, temperature=0.7)
    for seq, name in enumerate(NAMES[:3]):
        engine.submit(seq, prompt, sampling, lora=name, choices=3)
    engine.run()
    for seq, name in enumerate(NAMES[:3]):
        expected = Engine(fused[name])
        expected.submit(0, prompt, sampling, choices=3)
        expected.run()
        for choice in range(3):
            assert engine.choices[seq, choice] == expected.choices[0, choice]


def test_prefixes_never_cross_loras(fused: dict[str, Module], tmp_path: Path) -> None:
    """A prompt is found again for its own LoRA only, and not for the next one of that name."""
    engine = Engine(llama(), prefix_bytes=1 << 28)
    made = four(llama())
    put(engine, {"a": made["a"], "b": made["b"]}, tmp_path / "first")
    prompt = prompts(2, longest=200)[1] * 2
    asked = ["", "a", "b", "a", ""]
    for seq, name in enumerate(asked):
        engine.submit(seq, prompt, lora=name)
        engine.run()
        assert engine.tokens[seq] == alone(fused[name], prompt)
    assert [engine.cached[seq] > 0 for seq in range(len(asked))] == [False, False, False, True, True]
    engine.scheduler.unload_lora("a")
    assert engine.scheduler.take_answers() == [LoraUnloaded("a")]
    put(engine, {"a": made["c"]}, tmp_path / "second")
    engine.submit(9, prompt, lora="a")
    engine.run()
    assert engine.cached[9] == 0
    assert engine.tokens[9] == alone(fused["c"], prompt)


def test_rows_that_are_put_back_keep_their_lora(
    fused: dict[str, Module], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What they had is computed again with it."""
    caplog.set_level(logging.INFO)
    model = llama()
    room = Footprint.of(model).bytes(256) * 3
    engine = Engine(model, kv_bytes=room)
    put(engine, four(llama()), tmp_path)
    asked = ["a", "b", "", "c"]
    given = [[seq, *range(200 + seq)] for seq in range(len(asked))]
    for seq, (name, prompt) in enumerate(zip(asked, given, strict=True)):
        engine.submit(seq, prompt, lora=name, max_tokens=100)
    engine.run()
    assert "is put back" in caplog.text
    for seq, (name, prompt) in enumerate(zip(asked, given, strict=True)):
        assert engine.tokens[seq] == alone(fused[name], prompt, max_tokens=100)


def test_loras_come_and_go_beside_running_rows(fused: dict[str, Module], tmp_path: Path) -> None:
    """Steps go on, and rows say what they would have said."""
    engine = Engine(llama())
    made = four(llama())
    put(engine, {"a": made["a"], "b": made["b"]}, tmp_path)
    given, asked = prompts(3, seed=8), ["a", "", "a"]
    for seq, (name, prompt) in enumerate(zip(asked, given, strict=True)):
        engine.submit(seq, prompt, lora=name, max_tokens=60)
    for _ in range(4):
        engine.step()
    loras = engine.scheduler.loras
    loras.load("c", str(write_mlx(tmp_path / "c", made["c"], mlx_config(40))))
    engine.scheduler.unload_lora("b")
    engine.scheduler.unload_lora("a")
    answers = []
    while loras.is_busy:
        engine.step()
        answers += engine.scheduler.take_answers()
    assert not engine.scheduler.is_idle
    assert [type(answer) for answer in answers] == [LoraLoaded, LoraUnloaded, LoraRefused]
    engine.submit(7, given[0], lora="c")
    engine.run()
    for seq, (name, prompt) in enumerate(zip(asked, given, strict=True)):
        assert engine.tokens[seq] == alone(fused[name], prompt, max_tokens=60)
    assert engine.tokens[7] == alone(fused["c"], given[0])
    engine.scheduler.unload_lora("a")
    assert engine.scheduler.take_answers() == [LoraUnloaded("a")]


def test_a_lora_that_waits_for_its_turn_is_in_use(tmp_path: Path) -> None:
    """Sequences that have not begun hold it as well."""
    engine = Engine(llama(), max_running=1)
    put(engine, {"a": delta(llama())}, tmp_path)
    engine.submit(0, [1, 2, 3], max_tokens=50)
    engine.submit(1, [1, 2, 3], lora="a")
    engine.step()
    engine.scheduler.unload_lora("a")
    engine.step()
    assert engine.scheduler.take_answers() == [LoraRefused("a", "it is in use")]
    engine.run()
    assert engine.finish(1) == "length"


def test_an_unknown_lora_ends_its_own_request(fused: dict[str, Module]) -> None:
    """Each of its choices, with the reason; the others go on."""
    engine = Engine(llama())
    engine.submit(0, [1, 2, 3])
    engine.step()
    engine.submit(1, [1, 2, 3], lora="none", choices=2)
    assert engine.scheduler.leisure_s == 0
    engine.run()
    assert engine.finishes[1, 0] == engine.finishes[1, 1] == "error"
    assert engine.ends[1].error == "LookupError: there is no LoRA 'none'"
    assert engine.tokens[0] == alone(fused[""], [1, 2, 3])
    engine.submit(2, [1, 2, 3], lora="none")
    assert not engine.scheduler.is_idle
    engine.run()
    assert engine.finish(2) == "error"


def test_prefixes_of_a_lora_go_with_it(tmp_path: Path) -> None:
    """Nobody can ever find them again; those of others stay."""
    engine = Engine(llama(), prefix_bytes=1 << 28)
    put(engine, {name: four(llama())[name] for name in "ab"}, tmp_path)
    prompt = prompts(2, longest=200)[1] * 2
    for seq, name in enumerate(["", "a", "b"]):
        engine.submit(seq, prompt, lora=name)
    engine.run()
    engine.scheduler.unload_lora("a")
    assert engine.scheduler.take_answers() == [LoraUnloaded("a")]
    for seq, name in ((3, ""), (4, "b")):
        engine.submit(seq, prompt, lora=name)
    engine.run()
    assert engine.cached[3] > 0
    assert engine.cached[4] > 0
    kept = engine.scheduler.clear_cache()
    alone = Engine(llama(), prefix_bytes=1 << 28)
    alone.submit(0, prompt)
    alone.run()
    assert kept.bytes == 2 * alone.scheduler.clear_cache().bytes, "of none and of b"

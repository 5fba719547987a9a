"""LoRAs of a running engine process, as the service asks for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlx_lm.utils import load_model

from service.engine.frames import (
    Abort,
    Command,
    Event,
    Loaded,
    LoadLora,
    LoraLoaded,
    LoraRefused,
    LoraUnloaded,
    Row,
    Sampling,
    Step,
    Submit,
    UnloadLora,
    pack,
)
from tests.service.engine.lora_files import delta, write_mlx, write_peft
from tests.service.engine.test_main import ENDLESS, Engine, started

GREEDY = Sampling(seed=0, temperature=0)
PROMPT = [1, 2, 3, 4]


@pytest.fixture
def engine(tiny_model: Path, tmp_path: Path) -> Iterator[Engine]:
    """Give an engine with a model."""
    with started(tiny_model, tmp_path / "cache") as running:
        assert isinstance(running.next(), Loaded)
        yield running


@pytest.fixture
def folders(tiny_model: Path, tmp_path: Path) -> dict[str, Path]:
    """Write LoRAs in both formats."""
    model = load_model(tiny_model)[0]
    return {
        "mlx": write_mlx(tmp_path / "mlx", delta(model, seed=1)),
        "peft": write_peft(tmp_path / "peft", delta(model, seed=2)),
    }


def tell(engine: Engine, *commands: Command) -> None:
    """Send commands together."""
    engine.socket.sendall(b"".join(pack(command) for command in commands))


def until(engine: Engine, *kinds: type[Event]) -> tuple[Event, list[Row]]:
    """Wait for an event of some kinds; it, and the rows that came before."""
    rows: list[Row] = []
    for event in engine.all():
        if isinstance(event, Step):
            rows += event.rows
        if isinstance(event, kinds):
            return event, rows
    raise AssertionError("the engine ended")


def said(engine: Engine, *submits: Submit) -> dict[int, list[int]]:
    """Have sequences run together, and give their tokens."""
    tell(engine, *submits)
    tokens: dict[int, list[int]] = {submit.seq: [] for submit in submits}
    open_ones = set(tokens)
    while open_ones:
        for row in until(engine, Step)[1]:
            if row.seq in tokens:
                tokens[row.seq] += row.tokens
                if row.finish is not None:
                    assert row.finish == "length"
                    open_ones.remove(row.seq)
    return tokens


def test_loras_come_and_go_while_sequences_run(engine: Engine, folders: dict[str, Path]) -> None:
    """Each sequence says by its LoRA what it says alone, and one that goes on all the time is not held up."""
    tell(engine, ENDLESS, *(LoadLora(name, str(folder)) for name, folder in folders.items()))
    for name in folders:
        answer, _ = until(engine, LoraLoaded, LoraRefused)
        assert isinstance(answer, LoraLoaded)
        assert (answer.name, answer.rank, answer.scale) == (name, 4, 2.0)
        assert answer.bytes > 0
    names = ["mlx", "", "peft", "mlx"]
    submits = [Submit(seq, PROMPT, GREEDY, 12, lora=name) for seq, name in enumerate(names, 10)]
    together = said(engine, *submits)
    tell(engine, Abort(ENDLESS.seq))
    apart = {submit.seq: said(engine, submit)[submit.seq] for submit in submits}
    assert together == apart
    assert len({tuple(tokens) for tokens in together.values()}) == 3
    tell(engine, UnloadLora("mlx"))
    assert until(engine, LoraUnloaded, LoraRefused)[0] == LoraUnloaded("mlx")
    tell(engine, submits[0])
    [row] = [row for row in until(engine, Step)[1] if row.seq == submits[0].seq]
    assert row.finish == "error"
    assert said(engine, submits[2]) == {submits[2].seq: together[submits[2].seq]}


def test_a_lora_that_cannot_be_used_harms_nobody(engine: Engine, folders: dict[str, Path], tmp_path: Path) -> None:
    """The refusal names the cause; the engine and its sequences go on."""
    weights = folders["mlx"] / "adapters.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    tell(engine, ENDLESS, LoadLora("cut", str(folders["mlx"])), LoadLora("none", str(tmp_path / "none")))
    for name, reason in (("cut", "adapters.safetensors"), ("none", "is not a folder")):
        answer, _ = until(engine, LoraLoaded, LoraRefused)
        assert isinstance(answer, LoraRefused)
        assert answer.name == name
        assert reason in answer.reason
    tell(engine, LoadLora("good", str(folders["peft"])))
    assert isinstance(until(engine, LoraLoaded, LoraRefused)[0], LoraLoaded)
    assert said(engine, Submit(5, PROMPT, GREEDY, 4, lora="good"))[5]
    assert any(row.seq == ENDLESS.seq for row in until(engine, Step)[1])

"""An engine with LoRAs in a process of its own: its scheduler is given whole batches.

`python -m tests.bench.lora_engine FOLDER SCRATCH COUNT` puts so many random LoRAs on a model, says `ready`, reads one
command a line and answers each with a line.
"""

import sys
import time
from pathlib import Path

import mlx.core as mx
import msgspec
from mlx.nn.layers.base import Module

from service.engine.frames import LoraLoaded, Sampling, Submit
from service.engine.limits import Limits
from service.engine.loader import load
from service.engine.memory import Footprint
from service.engine.scheduler import Scheduler
from tests.bench.commands import Done, LoraBatch

_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_RANK, _SCALE = 8, 2.0
_MOST_ROWS, _CHUNK, _KV_BYTES = 32, 256, 1 << 29
_GREEDY = Sampling(0, temperature=0)


class LoraEngine:
    """A model with as many LoRAs as are asked for, on all of its projections. Times are from the prompts to the end."""

    def __init__(self, folder: Path, scratch: Path, count: int) -> None:
        model = load(folder, folder, kv_bytes=_KV_BYTES)[0]
        written = [_write(model, scratch / str(number), number) for number in range(count)]
        self._scheduler = Scheduler(model, Limits(_MOST_ROWS, _CHUNK, _KV_BYTES, 0), Footprint.of(model))
        for number, path in enumerate(written):
            self._scheduler.loras.load(str(number), str(path))
        answers = self._scheduler.loras.work(float("inf"))
        assert all(isinstance(answer, LoraLoaded) for answer in answers), answers

    def run(self, batch: LoraBatch) -> Done:
        """Generate for all prompts together, greedily."""
        start, made = time.perf_counter(), 0
        for seq, (prompt, lora) in enumerate(zip(batch.prompts, batch.loras, strict=True)):
            self._scheduler.submit(Submit(seq, prompt, _GREEDY, batch.tokens, lora=lora))
        while not self._scheduler.is_idle:
            made += sum(len(row.tokens) for row in self._scheduler.step().rows)
        return Done(time.perf_counter() - start, made)


def _write(model: Module, folder: Path, seed: int) -> Path:
    """Write a random LoRA in mlx-lm's format."""
    mx.random.seed(seed)
    tensors = {}
    for path, layer in model.named_modules():  # type: ignore[no-untyped-call]
        if path.endswith(_LAYERS):
            output, width = layer.weight.shape
            tensors[f"{path}.lora_a"] = mx.random.normal((width, _RANK)) / width**0.5
            tensors[f"{path}.lora_b"] = mx.random.normal((_RANK, output)) * 0.05
    folder.mkdir(parents=True)
    mx.save_safetensors(str(folder / "adapters.safetensors"), tensors)
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": _RANK, "scale": _SCALE}}
    (folder / "adapter_config.json").write_bytes(msgspec.json.encode(config))
    return folder


def main() -> None:
    """Load the model and follow commands until standard input ends."""
    engine = LoraEngine(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    decoder = msgspec.json.Decoder(LoraBatch)
    print("ready", flush=True)
    for line in sys.stdin:
        print(msgspec.json.encode(engine.run(decoder.decode(line))).decode(), flush=True)


if __name__ == "__main__":
    main()

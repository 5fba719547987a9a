"""Rows over several LoRAs in one batch, against as many of the model itself, and against one LoRA at a time."""

import tempfile
from pathlib import Path

from tests.bench.bench import Bench
from tests.bench.results import Result, at_least, ratio
from tests.bench.rounds import alternate
from tests.bench.sides.lora_engine import LoraEngine

_ROWS, _LORAS = 16, 4
_TOKENS = 100
_OF_BASE = {"tiny": at_least(0.75), "smollm2": at_least(0.85)}
_AT_A_TIME = {"tiny": None, "smollm2": at_least(2.0)}


def measure(bench: Bench) -> list[Result]:
    """Tokens a second of all rows together, in an engine without a service before it."""
    names = [str(row % _LORAS) for row in range(_ROWS)]
    share = _ROWS // _LORAS
    with tempfile.TemporaryDirectory() as scratch:
        engine = LoraEngine(bench.model.folder, Path(scratch), _LORAS)
        try:

            def batch(loras: list[str]) -> float:
                return _ROWS * _TOKENS / engine.seconds(bench.prompts.many(_ROWS), loras, _TOKENS)

            def one_at_a_time() -> float:
                parts = [
                    engine.seconds(bench.prompts.many(share), [str(lora)] * share, _TOKENS) for lora in range(_LORAS)
                ]
                return _ROWS * _TOKENS / sum(parts)

            sides = {"mixed": lambda: batch(names), "base": lambda: batch([""] * _ROWS), "apart": one_at_a_time}
            figures = alternate(sides, bench.rounds)
        finally:
            engine.stop()
    mixed, name = figures["mixed"], bench.model.name
    over = f"{_ROWS} rows over {_LORAS} LoRAs"
    return [
        ratio(f"{over} ÷ {_ROWS} rows of the model", name, "tok/s", mixed, figures["base"], _OF_BASE[name]),
        ratio(f"{over} ÷ one LoRA at a time", name, "tok/s", mixed, figures["apart"], _AT_A_TIME[name]),
    ]

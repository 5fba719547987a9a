"""How weights are cut into blocks, and where."""

import ctypes.util
import subprocess
import sys
from pathlib import Path

import pytest

from service.engine import blocks
from service.engine.blocks import block_of
from service.pool.blas import engine_environment

AVX512 = "avx512vl"
"""The flag of processors that have such products."""
ASK = "from service.engine.blocks import are_fast, block_of; print(are_fast(), block_of(576, 576, 1))"


@pytest.mark.parametrize(
    ("outputs", "width", "rows", "expected"),
    [
        (1536, 576, 1, 192),
        (1536, 576, 16, 96),
        (1536, 576, 32, 48),
        (576, 1536, 32, 18),
        (576, 1536, 64, 0),
        (49152, 576, 108, 16),
        (49152, 576, 109, 0),
        (100, 64, 1, 100),
        (12, 64, 1, 0),
        (523, 64, 1, 0),
        (64, 64, 0, 0),
    ],
)
def test_blocks_are_as_long_as_they_may_be(
    monkeypatch: pytest.MonkeyPatch, outputs: int, width: int, rows: int, expected: int
) -> None:
    """They divide the weights, and hold no more multiplications than OpenBLAS does without a copy."""
    monkeypatch.setattr(blocks, "are_fast", lambda: True)
    assert block_of(outputs, width, rows) == expected


def test_there_are_none_where_they_do_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another BLAS."""
    monkeypatch.setattr(blocks, "are_fast", lambda: False)
    assert block_of(1536, 576, 1) == 0


@pytest.mark.skipif(ctypes.util.find_library("openblas") is None, reason="this takes OpenBLAS")
@pytest.mark.skipif(sys.platform != "linux", reason="there the engine gets it on Linux only")
@pytest.mark.parametrize("core", ["", "Haswell"])
def test_an_engine_asks_its_blas(core: str) -> None:
    """It uses them on processors with AVX-512, unless it is told to be another one."""
    environment = engine_environment(1) | ({"OPENBLAS_CORETYPE": core} if core else {})
    said = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    has_avx512 = not core and AVX512 in Path("/proc/cpuinfo").read_text().split()
    assert said.stdout.split() == (["True", "192"] if has_avx512 else ["False", "0"])

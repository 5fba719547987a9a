"""GGUF files are judged by their headers."""

import json
import subprocess
import sys
from pathlib import Path

from tests import tiny
from tests.service.engine import gguf_files

MODULES = "import sys, service.engine.gguf_check; print(*sorted(sys.modules))"


def test_each_file_gets_a_verdict(tmp_path: Path) -> None:
    """In the order in which they are named, with what is wrong in one line."""
    words = tiny.tokenizer(special=tiny.SPECIAL)
    tensors = {"token_embd.weight": ("F32", (400, 64), b"")}
    gguf_files.write(tmp_path / "good.gguf", gguf_files.metadata(words), tensors)
    other = gguf_files.metadata(words, **{"tokenizer.ggml.pre": "viking"})
    gguf_files.write(tmp_path / "other.gguf", other, tensors)
    (tmp_path / "bad.gguf").write_text("nothing")
    files = [str(tmp_path / f"{name}.gguf") for name in ("good", "other", "bad", "gone")]
    command = [sys.executable, "-m", "service.engine.gguf_check", *files]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [name for name, _ in said] == files
    assert said[0][1] == ""
    assert "'viking'" in said[1][1]
    assert "no GGUF" in said[2][1]
    assert "No such file" in said[3][1]


def test_no_framework_is_needed() -> None:
    """It is quick to start, since many folders may be looked through."""
    ran = subprocess.run([sys.executable, "-c", MODULES], capture_output=True, text=True, check=True, timeout=60)
    assert {"mlx", "mlx_lm", "transformers", "numpy"}.isdisjoint(ran.stdout.split())

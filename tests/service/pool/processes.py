"""Files that only MLX can make, made beside the process of the tests."""

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[3]
_MAKE = """
import sys
from pathlib import Path
from tests import tiny
from tests.service.engine import gguf_files
words = tiny.tokenizer(special=tiny.SPECIAL)
model = tiny.build(tiny.llama_config(words.get_vocab_size()))
gguf_files.write_model(Path(sys.argv[1]), model, gguf_files.metadata(words), sys.argv[2])
"""


def make_gguf(file: Path, kind: str = "Q8_0") -> Path:
    """Write a random llama as a GGUF file with weights of a type."""
    subprocess.run([sys.executable, "-c", _MAKE, str(file), kind], cwd=_ROOT, check=True, timeout=120)
    return file

"""The baseline: mlx-lm's `stream_generate` in a process of its own, on the same weights, with the same BLAS.

Reads a line `COUNT` on standard input for each run and answers with the seconds that COUNT tokens took.
"""

import sys
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm.generate import stream_generate
from mlx_lm.utils import load_tokenizer

from service.engine.loader import load
from tests.bench.workload import prompt_ids


def main() -> None:
    """Load the model of the first argument and time runs until standard input ends."""
    folder = Path(sys.argv[1])
    model, loaded = load(folder, folder)
    tokenizer = load_tokenizer(folder)  # type: ignore[no-untyped-call]
    tokenizer.eos_token_ids = []  # the other side ignores them too
    prompt = mx.array(prompt_ids(loaded.tokenizer_file))
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        made = sum(1 for _ in stream_generate(model, tokenizer, prompt, max_tokens=int(line)))
        print(time.perf_counter() - start, made, flush=True)


if __name__ == "__main__":
    main()

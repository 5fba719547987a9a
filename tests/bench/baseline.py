"""The baseline: mlx-lm in a process of its own, on the same weights as the engine and with the same BLAS.

`python -m tests.bench.baseline FOLDER` says `ready`, reads one command a line and answers each with a line.
"""

import sys
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import msgspec
from mlx.nn.layers.base import Module
from mlx_lm.generate import BatchGenerator, stream_generate
from mlx_lm.sample_utils import make_sampler
from mlx_lm.utils import load_tokenizer

from service.engine.loader import load
from tests.bench.commands import Batch, Command, Done, FirstTokens, OneStream, Reload
from tests.bench.workload import Sampling


class Library:
    """A model behind the library's own two ways to generate. Times are from the prompts to the last token."""

    def __init__(self, folder: Path) -> None:
        self._model: Module = load(folder, folder)[0]
        self._tokenizer: Any = load_tokenizer(folder)  # type: ignore[no-untyped-call]
        self._tokenizer.eos_token_ids = []  # the other side ignores them too

    def run(self, command: Command) -> Done:
        """Do what is asked."""
        match command:
            case OneStream(prompt, tokens):
                return self._one_stream(prompt, tokens)
            case Batch(prompts, tokens, at_once, samplings):
                return self._batch(prompts, tokens, at_once, samplings)
            case FirstTokens(prompts):
                return self._batch(prompts, 1, len(prompts), [])
            case Reload(folder, prompt):
                return _reload(folder, prompt)

    def _one_stream(self, prompt: list[int], tokens: int) -> Done:
        start = time.perf_counter()
        made = sum(1 for _ in stream_generate(self._model, self._tokenizer, mx.array(prompt), max_tokens=tokens))
        return Done(time.perf_counter() - start, made)

    def _batch(self, prompts: list[list[int]], tokens: int, at_once: int, samplings: list[Sampling]) -> Done:
        generator = BatchGenerator(self._model, completion_batch_size=at_once, prefill_batch_size=at_once)
        samplers = [make_sampler(temp=one.temperature, top_p=one.top_p) for one in samplings] or None
        start = time.perf_counter()
        generator.insert(prompts, [tokens] * len(prompts), samplers=samplers)
        made = ended = 0
        while ended < len(prompts):
            responses = generator.next()[1]  # type: ignore[no-untyped-call]
            made += len(responses)
            ended += sum(response.finish_reason is not None for response in responses)
        seconds = time.perf_counter() - start
        generator.close()  # type: ignore[no-untyped-call]
        mx.synchronize()  # a step that nobody will ask for is still under way
        return Done(seconds, made)


def _reload(folder: str, prompt: list[int]) -> Done:
    start = time.perf_counter()
    model, tokenizer = mlx_lm.load(folder)[:2]
    loaded = time.perf_counter() - start
    made = sum(1 for _ in stream_generate(model, tokenizer, mx.array(prompt), max_tokens=1))
    return Done(time.perf_counter() - start, made, loaded)


def main() -> None:
    """Load the model of the first argument and follow commands until standard input ends."""
    library = Library(Path(sys.argv[1]))
    decoder = msgspec.json.Decoder(Command)
    print("ready", flush=True)
    for line in sys.stdin:
        done = library.run(decoder.decode(line))
        print(msgspec.json.encode(done).decode(), flush=True)


if __name__ == "__main__":
    main()

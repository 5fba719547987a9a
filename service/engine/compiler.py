"""Compiles grammars in threads of its own, and remembers them."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue

from llguidance import LLMatcher, LLTokenizer

from service.engine import grammar
from service.engine.constraint import THREADS, Constraint
from service.engine.grammar import InvalidGrammar
from service.engine.guard import Guard

_REMEMBERED = 64
_REMEMBERED_BYTES = 1 << 28
"""What is kept of those; the newest is kept in any case."""
_COMPILERS = 2
"""Grammars at a time: one that takes long does not hold up all others."""
_LONGEST_S = 30.0
"""From a request to its grammar, the wait for others included."""
_TOO_LATE = "it could not be compiled in time"

Result = LLMatcher | Exception


class Compiler:
    """Used from the engine's thread, which never waits for it: a grammar is asked for until it is there."""

    def __init__(
        self, tokenizer_file: Path, stop_ids: Sequence[int], vocabulary: int, wake: Callable[[], None] = lambda: None
    ) -> None:
        """`vocabulary` is the number of logits; `wake` is called, from another thread, when there is something new."""
        self._tokenizer_file = tokenizer_file
        self._stop_ids = list(stop_ids)
        self._vocabulary = vocabulary
        self._wake = wake
        self._done: OrderedDict[str, tuple[Result, int]] = OrderedDict()
        self._asked: dict[str, float] = {}
        self._requests: SimpleQueue[str] = SimpleQueue()
        self._results: SimpleQueue[tuple[str, Result, int]] = SimpleQueue()
        self._guards: list[Guard] = []
        self._lock = threading.Lock()

    def constraint(self, text: str, stop_ids: frozenset[int]) -> Constraint | None:
        """A row's constraint; None while it is compiled, which this begins if need be.

        Raises InvalidGrammar, or whatever else there is that keeps grammars from being compiled at this time.
        """
        self._collect()
        if text in self._done:
            self._done.move_to_end(text)
            base = self._done[text][0]
            if isinstance(base, LLMatcher):
                return Constraint(base, stop_ids, self._ends, self._vocabulary, self._maskers)
            if not isinstance(base, InvalidGrammar):  # the next one may have more luck
                del self._done[text]
            raise base
        now = time.monotonic()
        if now - self._asked.setdefault(text, now) > _LONGEST_S:
            del self._asked[text]
            raise InvalidGrammar(_TOO_LATE)
        if self._asked[text] == now:
            self._begin(text)
        return None

    def get_ready(self) -> None:
        """Read the model's vocabulary, for a time when nobody waits: no other Python runs meanwhile, up to a second."""
        with suppress(Exception):  # it is tried again, and told, when it is needed
            _ = self._words

    def stop(self) -> None:
        """End the processes, whatever they do."""
        for guard in self._guards:
            guard.stop()

    def _begin(self, text: str) -> None:
        self._requests.put(text)
        if len(self._guards) < min(_COMPILERS, len(self._asked)):
            guard = Guard(self._tokenizer_file, self._stop_ids)
            self._guards.append(guard)
            grammar.thread(threading.Thread(target=self._work, args=[guard], name="compiler", daemon=True))

    def _collect(self) -> None:
        while not self._results.empty():
            text, result, size = self._results.get()
            self._asked.pop(text, None)
            self._done[text] = result, size
            while len(self._done) > 1 and (
                len(self._done) > _REMEMBERED or sum(size for _, size in self._done.values()) > _REMEMBERED_BYTES
            ):
                self._done.popitem(last=False)

    def _work(self, guard: Guard) -> None:
        """A thread's life."""
        while True:
            text = self._requests.get()
            result: Result
            try:
                guard.start()
                words, size = self._words, guard.check(text)
                result = grammar.compiled(words, text)
            except InvalidGrammar as invalid:
                result, size = invalid, len(text)
            except Exception as error:  # noqa: BLE001 - a process that cannot be started, a tokenizer unlike all others
                result, size = error, 0
            self._results.put((text, result, size))
            self._wake()

    @property
    def _words(self) -> LLTokenizer:
        with self._lock:
            return self._vocabulary_of_the_model

    @cached_property
    def _vocabulary_of_the_model(self) -> LLTokenizer:
        return grammar.vocabulary(self._tokenizer_file, self._stop_ids)

    @property
    def _ends(self) -> frozenset[int]:
        return frozenset(self._words.eos_tokens)

    @cached_property
    def _maskers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, thread_name_prefix="masker")

"""An engine that says what a test tells it to, where the service's own work is what is tested."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from service.engine.frames import (
    Command,
    Defaults,
    Event,
    Hello,
    Load,
    Loaded,
    Logprob,
    Progress,
    Queued,
    Row,
    Shutdown,
    Step,
    Submit,
    commands,
    events,
    pack,
)
from service.pool.courtesy import NONE, Courtesy
from service.pool.engine_process import EngineProcess
from tests.service.text.tokenizers import byte_level

CommandT = TypeVar("CommandT", bound=Command)
HELLO = Hello(rss_bytes=80 << 20, room_bytes=8 << 30, device="cpu", mlx_version="0", mlx_lm_version="0")
_NO_WEIGHTS = (2).to_bytes(8, "little") + b"{}"
"""The smallest file of its kind: a header without tensors."""
_HEADER = 4
"""Bytes before a message's body."""


class FakeProcess:
    """Stands in for an EngineProcess. Both ways, messages go through their form on the socket."""

    pid = 0

    def __init__(self, receive: Callable[[Event], None], loaded: Loaded) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.load: Load | None = None
        """What it was told to load, which it does at once."""
        self._receive = receive
        self._loaded = loaded
        self._sent: asyncio.Queue[Command] = asyncio.Queue()

    def send(self, command: Command) -> None:
        read = commands.decode(pack(command)[_HEADER:])
        if isinstance(read, Load):
            self.load = read
            asyncio.get_running_loop().call_soon(self.say, self._loaded)
        else:
            self._sent.put_nowait(read)

    async def stop(self) -> int:
        self.lose()
        return 0

    def kill(self) -> None:
        self.lose()

    def lose(self) -> None:
        """End as an engine that was killed does."""
        if not self.lost.done():
            self.lost.set_result(None)

    def say(self, event: Event) -> None:
        """Let the service hear an event."""
        self._receive(events.decode(pack(event)[_HEADER:]))

    def step(self, *items: Queued | Progress | Row) -> None:
        """Let the service hear what a step did."""
        self.say(
            Step(
                rows=[item for item in items if isinstance(item, Row)],
                progress=[item for item in items if isinstance(item, Progress)],
                queued=[item for item in items if isinstance(item, Queued)],
            )
        )

    async def heard(self, kind: type[CommandT]) -> CommandT:
        """Wait for the next command, which must be of a kind."""
        async with asyncio.timeout(5):
            command = await self._sent.get()
        assert isinstance(command, kind), command
        return command

    @property
    def unheard(self) -> list[Command]:
        """Commands that nobody has waited for, other than the one to end."""
        return [command for command in self._sent._queue if not isinstance(command, Shutdown)]  # type: ignore[attr-defined]

    async def begin(self, cached: int = 0) -> Submit:
        """Wait for a sequence and process its whole prompt."""
        submit = await self.heard(Submit)
        self.step(Progress(submit.seq, len(submit.prompt), 0.0, cached))
        return submit


class FakeEngines:
    """All engine processes that were started, the newest last. Each is loaded at once, with `loaded` as it is then."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.started: list[FakeProcess] = []

    @classmethod
    def install(cls, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> "FakeEngines":
        """Take the place of real ones. `folder` becomes that of a model that looks right; `changes` are to Loaded."""
        (folder / "config.json").write_text('{"model_type": "llama"}')
        (folder / "model.safetensors").write_bytes(_NO_WEIGHTS)
        engines = cls(loaded(folder, **changes))

        async def start(
            environment: Mapping[str, str], receive: Callable[[Event], None], courtesy: Courtesy = NONE
        ) -> FakeProcess:
            process = FakeProcess(receive, engines.loaded)
            engines.started.append(process)
            asyncio.get_running_loop().call_soon(process.say, HELLO)
            return process

        monkeypatch.setattr(EngineProcess, "start", start)
        return engines

    @property
    def process(self) -> FakeProcess:
        """The newest one."""
        return self.started[-1]


def loaded(folder: Path, **changes: Any) -> Loaded:
    """What an engine says of a model with a byte-level tokenizer, which is written into `folder`."""
    file = folder / "tokenizer.json"
    byte_level()._inner.save(str(file))
    facts: dict[str, Any] = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "stop_ids": [token("<|im_end|>")],
        "chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
        "special_tokens": {},
        "context_length": 1000,
        "kv_tokens": 1000,
        "kv_bytes": 1 << 20,
        "vocab_size": byte_level().vocab_size,
        "weights_bytes": 1,
        "defaults": Defaults(),
        "tokenizer_file": str(file),
        "created": 0.0,
        "device": "cpu",
        "mlx_version": "0",
        "mlx_lm_version": "0",
    }
    return Loaded(**(facts | changes))


def token(text: str) -> int:
    """The id of a text that is one token."""
    [number] = ids(text)
    return number


def ids(text: str) -> list[int]:
    """The tokens of a text."""
    return byte_level().encode(text, add_special=False)


def logprob(number: float, *top: tuple[int, float]) -> Logprob:
    """A log-probability with its alternatives."""
    return Logprob(number, list(top))

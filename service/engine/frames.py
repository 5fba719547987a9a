"""The messages between the service and an engine process: length-prefixed msgpack over a socket pair."""

import struct
from collections.abc import Iterator

import msgspec

_LENGTH = struct.Struct("<I")


class Sampling(msgspec.Struct, frozen=True, array_like=True):
    """How a sequence's tokens are drawn, with every default filled in. `top_k` 0 is off."""

    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = {}


class Submit(msgspec.Struct, frozen=True, array_like=True, tag="submit"):
    """Starts a sequence. It ends after `max_tokens` tokens, or at one of `stop_ids` once it has `min_tokens`."""

    seq: int
    prompt: list[int]
    sampling: Sampling
    max_tokens: int
    min_tokens: int = 0
    stop_ids: list[int] = []


class Abort(msgspec.Struct, frozen=True, array_like=True, tag="abort"):
    """Ends a sequence; no more is heard of it. An unknown one is ignored, since it may have just ended."""

    seq: int


class Shutdown(msgspec.Struct, frozen=True, array_like=True, tag="shutdown"):
    """Ends the process."""


Command = Submit | Abort | Shutdown


class Defaults(msgspec.Struct, frozen=True):
    """Sampling defaults of the model's generation_config.json; None where it names none."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is ready. Sizes are in bytes, lengths in tokens, `created` in seconds since 1970."""

    model_type: str
    architectures: list[str]
    stop_ids: list[int]
    chat_template: str | None
    special_tokens: dict[str, str]
    """By its name for templates, such as bos_token."""
    context_length: int
    vocab_size: int
    weights_bytes: int
    defaults: Defaults
    tokenizer_file: str
    created: float
    device: str
    mlx_version: str
    mlx_lm_version: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The model cannot be loaded; the process ends. `reason` is one line for a person."""

    reason: str


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """The engine is idle and well."""


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """A chunk of a sequence's prompt is processed. `admitted` is when its first one began, on the monotonic clock."""

    seq: int
    processed: int
    admitted: float


class Row(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a step gave a sequence. `finish` is None while it runs, else "stop", "length" or "error"."""

    seq: int
    tokens: list[int]
    finish: str | None = None
    error: str = ""


class Step(msgspec.Struct, frozen=True, tag="step"):
    """All that one step of the engine did."""

    rows: list[Row]
    progress: list[Progress] = []


Event = Loaded | Refused | Heartbeat | Step

encoder = msgspec.msgpack.Encoder()
commands = msgspec.msgpack.Decoder(Command)
events = msgspec.msgpack.Decoder(Event)


def pack(message: Command | Event) -> bytes:
    """One message as it goes over the socket."""
    body = encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Cuts a byte stream into the bodies of its messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the body of each message that is complete with `data`."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield body

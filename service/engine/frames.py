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


class Thinking(msgspec.Struct, frozen=True, array_like=True):
    """A bound on a sequence's reasoning, in token ids: after `budget` tokens of it, `ending` is put in its place.

    Reasoning begins with `opening`, at the start of the output or after some of `blanks`, unless the prompt has left it
    `is_open`; the model ends it by itself with `closing`.
    """

    budget: int
    opening: list[int]
    closing: list[int]
    ending: list[int]
    is_open: bool = False
    blanks: list[int] = []


class Submit(msgspec.Struct, frozen=True, array_like=True, tag="submit"):
    """Starts a sequence for each of `choices`.

    Each ends after `max_tokens` tokens, or at one of `stop_ids` once it has `min_tokens`. A `max_tokens` of 0 processes
    the prompt only.
    """

    seq: int
    prompt: list[int]
    sampling: Sampling
    max_tokens: int
    min_tokens: int = 0
    stop_ids: list[int] = []
    choices: int = 1
    """All draw by the same settings and seed, each from a random stream of its own."""
    logprobs: int = -1
    """How many alternatives come with the log-probability of each token; below 0 for no log-probabilities."""
    prompt_logprobs: int = -1
    """The same for the tokens of the prompt."""
    priority: int = 0
    """Higher is admitted first."""
    caller: str = ""
    """Callers of one priority get equal shares."""
    deadline: float | None = None
    """On the monotonic clock, in seconds. A sequence that cannot start in time ends with "deadline"."""
    salt: str = ""
    """Prefixes are shared inside one salt."""
    bypass: bool = False
    """Neither reads nor writes the prefix cache."""
    boundaries: list[int] = []
    """Lengths of prefixes that other prompts are likely to share, ascending, for caches that cannot be cut anywhere."""
    report: bool = False
    """Whether places in the queue are told."""
    grammar: str = ""
    """What the output must be, reasoning and tool calls included: a grammar of llguidance, in Lark or as its JSON."""
    thinking: Thinking | None = None
    lora: str = ""
    """The name of a LoRA that has been loaded; empty for none."""


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """Loads the model in `folder`; the first command, answered by `Loading` events and then `Loaded` or `Refused`.

    Made files go under `cache_dir`. Of the `reserved_bytes` for all that the process takes, keys and values get
    `kv_bytes`, or with None what is left of them; `prefix_bytes` and `prefill_chunk` are the engine's to decide when
    None.
    """

    folder: str
    cache_dir: str
    max_running: int
    reserved_bytes: int
    kv_bytes: int | None = None
    prefix_bytes: int | None = None
    prefill_chunk: int | None = None
    trust_remote_code: bool = False
    """Whether the model may bring a program of its own."""
    yield_s: float = 0.0
    """How long the load yields to other processes, in seconds."""


class Abort(msgspec.Struct, frozen=True, array_like=True, tag="abort"):
    """Ends a choice, or with None all choices of a sequence; no more is heard of it.

    An unknown one is ignored, since it may have just ended.
    """

    seq: int
    choice: int | None = None


class ClearCache(msgspec.Struct, frozen=True, array_like=True, tag="clear"):
    """Empties the prefix cache; answered by `Cleared`."""


class LoadLora(msgspec.Struct, frozen=True, array_like=True, tag="load_lora"):
    """Loads a LoRA from the folder `path`, while sequences run; answered by `LoraLoaded` or `LoraRefused`."""

    name: str
    path: str


class UnloadLora(msgspec.Struct, frozen=True, array_like=True, tag="unload_lora"):
    """Takes a LoRA off; answered by `LoraUnloaded`, or by `LoraRefused` while sequences use it."""

    name: str


class Shutdown(msgspec.Struct, frozen=True, array_like=True, tag="shutdown"):
    """Ends the process."""


Command = Load | Submit | Abort | ClearCache | LoadLora | UnloadLora | Shutdown


class Defaults(msgspec.Struct, frozen=True):
    """Sampling defaults of the model's generation_config.json; None where it names none."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The process has imported what it needs and waits for a model. It is the first event."""

    rss_bytes: int
    """Memory that the process takes."""
    room_bytes: int
    """Memory that the device has for models."""
    device: str
    mlx_version: str
    mlx_lm_version: str


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """How far a load is: the `stage` is "weights", with a `fraction` from 0 to 1, or "warming"."""

    stage: str
    fraction: float = 0.0


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is ready. Sizes are in bytes, lengths in tokens, `created` in seconds since 1970."""

    model_type: str
    architectures: list[str]
    stop_ids: list[int]
    chat_template: str | None
    special_tokens: dict[str, str]
    """By its name for templates, such as bos_token."""
    context_length: int
    kv_tokens: int
    """Tokens of one sequence that the memory for keys and values can hold."""
    kv_bytes: int
    """The memory for keys and values."""
    vocab_size: int
    weights_bytes: int
    defaults: Defaults
    tokenizer_file: str
    created: float
    device: str
    mlx_version: str
    mlx_lm_version: str
    rss_bytes: int = 0
    """Memory that the process takes, the weights counted."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The model cannot be loaded; the process ends. `reason` is one line for a person."""

    reason: str


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """The engine is well. It comes about twice a second, whether or not the engine has something to do."""

    rss_bytes: int = 0
    """Memory that the process takes."""


class Cleared(msgspec.Struct, frozen=True, tag="cleared"):
    """The prefix cache is empty. Both are what was in it."""

    entries: int
    bytes: int


class LoraLoaded(msgspec.Struct, frozen=True, tag="lora_loaded"):
    """Sequences can have a LoRA. `rank` is its largest one, `scale` the usual one of its layers."""

    name: str
    rank: int
    scale: float
    bytes: int


class LoraRefused(msgspec.Struct, frozen=True, tag="lora_refused"):
    """A LoRA cannot be loaded, or not be taken off. `reason` is one line for a person."""

    name: str
    reason: str


class LoraUnloaded(msgspec.Struct, frozen=True, tag="lora_unloaded"):
    """No LoRA of this name is loaded any more."""

    name: str


class Logprob(msgspec.Struct, frozen=True, array_like=True):
    """A token's natural log-probability, and that of the likeliest tokens at its place, likeliest first."""

    logprob: float
    top: list[tuple[int, float]] = []


class Queued(msgspec.Struct, frozen=True, array_like=True):
    """How many sequences are ahead of one that waits. Only for those that asked."""

    seq: int
    position: int


class Progress(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """A chunk of a sequence's prompt is processed. `admitted` is when its first one began, on the monotonic clock.

    `processed` counts the `cached` tokens, which came from the prefix cache.
    """

    seq: int
    processed: int
    admitted: float
    cached: int = 0
    logprobs: list[Logprob | None] = []
    """Of the tokens that follow those of this chunk, in order; before them None for the first of the prompt."""


class Row(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a step gave a choice. `finish` is None while it runs, else one of the following.

    "stop": the last token is a stop token. "complete": the grammar lets nothing follow the last token. "length". For
    all choices of a sequence at once: "error", "deadline", and "invalid" for a grammar that cannot be used.
    """

    seq: int
    tokens: list[int]
    finish: str | None = None
    choice: int = 0
    logprobs: list[Logprob] = []
    """One for each token, if asked for."""
    error: str = ""


class Step(msgspec.Struct, frozen=True, tag="step"):
    """All that one step of the engine did."""

    rows: list[Row]
    progress: list[Progress] = []
    queued: list[Queued] = []


Event = Hello | Loading | Loaded | Refused | Heartbeat | Step | Cleared | LoraLoaded | LoraRefused | LoraUnloaded

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

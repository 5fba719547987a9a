"""What an engine tells the service."""

import msgspec

from service.engine.frames.step import Step


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


Event = Hello | Loading | Loaded | Refused | Heartbeat | Step | Cleared | LoraLoaded | LoraRefused | LoraUnloaded

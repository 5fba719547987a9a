"""What the service tells an engine."""

import msgspec

from service.engine.frames.submit import Submit


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
    pace_s: float = 0.0
    """How long it does so in small turns, in seconds."""


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

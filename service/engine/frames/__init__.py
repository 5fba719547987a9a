"""The messages between the service and an engine process, over a socket pair."""

from service.engine.frames.command import Abort, ClearCache, Command, Load, LoadLora, Shutdown, UnloadLora
from service.engine.frames.event import (
    Cleared,
    Defaults,
    Event,
    Heartbeat,
    Hello,
    Loaded,
    Loading,
    LoraLoaded,
    LoraRefused,
    LoraUnloaded,
    Refused,
)
from service.engine.frames.step import Logprob, Progress, Queued, Row, Step
from service.engine.frames.submit import Sampling, Submit, Thinking
from service.engine.frames.wire import Unpacker, commands, encoder, events, pack

__all__ = [
    "Abort",
    "ClearCache",
    "Cleared",
    "Command",
    "Defaults",
    "Event",
    "Heartbeat",
    "Hello",
    "Load",
    "LoadLora",
    "Loaded",
    "Loading",
    "Logprob",
    "LoraLoaded",
    "LoraRefused",
    "LoraUnloaded",
    "Progress",
    "Queued",
    "Refused",
    "Row",
    "Sampling",
    "Shutdown",
    "Step",
    "Submit",
    "Thinking",
    "UnloadLora",
    "Unpacker",
    "commands",
    "encoder",
    "events",
    "pack",
]

"""An engine's life: say hello, load a model, then drain commands, step, deliver."""

import gc
import time
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

from service.engine import memory
from service.engine.channel import Channel, ServiceGone
from service.engine.compiler import Compiler
from service.engine.frames import (
    Abort,
    ClearCache,
    Command,
    Heartbeat,
    Hello,
    Load,
    LoadLora,
    Refused,
    Shutdown,
    Submit,
    UnloadLora,
)
from service.engine.limits import Limits
from service.engine.loader import device_name, load
from service.engine.pace import paced
from service.engine.priority import lowered
from service.engine.scheduler import Scheduler
from service.engine.usage import rss_bytes

_HEARTBEAT_S = 0.5
_GAP_S = 0.004
"""Requests that were sent together are no further apart when they arrive."""


def serve(channel: Channel) -> None:
    """Wait for a model, load it, and serve it until told to end. Raises ServiceGone."""
    command = _await_model(channel)
    if command is None:
        return
    try:
        with (
            lowered(command.yield_s) if command.yield_s else nullcontext(),
            paced(command.pace_s) if command.pace_s else nullcontext(),
        ):
            model, loaded = load(
                Path(command.folder),
                Path(command.cache_dir),
                kv_bytes=command.kv_bytes,
                reserved_bytes=command.reserved_bytes,
                trust_remote_code=command.trust_remote_code,
                report=channel.send,
            )
            compiler = Compiler(Path(loaded.tokenizer_file), loaded.stop_ids, loaded.vocab_size, channel.wake)
            scheduler = Scheduler(model, _limits(command, loaded.kv_bytes), memory.Footprint.of(model), compiler)
            _settle()
    except ServiceGone:
        raise
    except Exception as error:  # noqa: BLE001 - a folder from elsewhere can be broken in any way; the service reports it
        channel.send(Refused(" ".join(f"{type(error).__name__}: {error}".split())))
        return
    memory.limit_buffers(loaded.kv_bytes)
    try:
        channel.send(loaded)
        _run(scheduler, compiler, channel)
    finally:
        compiler.stop()


def _await_model(channel: Channel) -> Load | None:
    """Be a spare until a model comes; None for the end."""
    mx.eval(mx.zeros(1))  # starts the threads of the device
    _settle()
    channel.send(
        Hello(rss_bytes(), memory.room(), device_name(), mlx_version=version("mlx"), mlx_lm_version=version("mlx-lm"))
    )
    while True:
        for command in channel.receive(_HEARTBEAT_S):
            match command:
                case Load():
                    return command
                case Shutdown():
                    return None
                case _:
                    pass  # there is nothing yet that could be aborted or cleared
        channel.send(Heartbeat(rss_bytes()))


def _settle() -> None:
    """What the libraries have made is here to stay: a collection that looked at it would take tens of milliseconds."""
    gc.collect()
    gc.freeze()


def _run(scheduler: Scheduler, compiler: Compiler, channel: Channel) -> None:
    """Serve until told to end."""
    tidy = False
    beat = 0.0
    goes_on = True

    def listen() -> None:
        nonlocal goes_on
        goes_on = _obey(channel.receive(0), scheduler, channel) and goes_on

    while goes_on and _obey(channel.receive(min(_HEARTBEAT_S, scheduler.leisure_s)), scheduler, channel):
        if not _gather(scheduler, channel):
            return
        if not scheduler.is_idle:
            channel.send(scheduler.step(listen))
            tidy = False
        elif not tidy:  # once it has been idle for a while: memory that comes back at once is not worth giving away
            compiler.get_ready()
            memory.give_back()
            tidy = True
        for answer in scheduler.take_answers():
            channel.send(answer)
            tidy = False
        if (now := time.monotonic()) - beat >= _HEARTBEAT_S or scheduler.is_idle:
            channel.send(Heartbeat(rss_bytes()))
            beat = now


def _obey(commands: list[Command], scheduler: Scheduler, channel: Channel) -> bool:
    """Carry out commands; False ends the engine."""
    for command in commands:
        match command:
            case Submit():
                scheduler.submit(command)
            case Abort(seq, choice):
                scheduler.abort(seq, choice)
            case ClearCache():
                channel.send(scheduler.clear_cache())
            case LoadLora(name, path):
                scheduler.loras.load(name, path)
            case UnloadLora(name):
                scheduler.unload_lora(name)
            case Load():
                raise TypeError("an engine loads one model in its life")
            case Shutdown():
                return False
    return True


def _gather(scheduler: Scheduler, channel: Channel) -> bool:
    """Wait for requests that come with those that wait, as long as they keep coming; False ends the engine."""
    until = time.monotonic() + scheduler.patience_s
    while (left := until - time.monotonic()) > 0:
        commands = channel.receive(min(_GAP_S, left))
        if not commands:
            return True
        if not _obey(commands, scheduler, channel):
            return False
    return True


def _limits(load: Load, kv_bytes: int) -> Limits:
    prefix = memory.prefix_budget(kv_bytes) if load.prefix_bytes is None else load.prefix_bytes
    return Limits(
        max_running=load.max_running,
        prefill_chunk=load.prefill_chunk or memory.default_chunk(),
        kv_bytes=kv_bytes,
        prefix_bytes=min(prefix, kv_bytes),
    )

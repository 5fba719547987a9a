"""The engine process: one model, all MLX on this thread. Started by the service with one end of a socket pair."""

import argparse
import gc
import logging
import signal
import socket
import sys
import time
from pathlib import Path

from service.engine import memory
from service.engine.channel import Channel, ServiceGone
from service.engine.compiler import Compiler
from service.engine.frames import Abort, ClearCache, Command, Heartbeat, Refused, Shutdown, Submit
from service.engine.loader import load
from service.engine.scheduler import Limits, Scheduler

_HEARTBEAT_S = 0.5
_GAP_S = 0.004
"""Requests that were sent together are no further apart when they arrive."""


def main() -> None:
    """Load the model and serve it until the service says stop or is gone."""
    logging.basicConfig(format="engine: %(message)s")
    # Signals to the whole process group are the service's to act on: it drains, then ends its engines.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    options = _options()
    channel = Channel(socket.socket(fileno=options.fd))
    try:
        serve(channel, options)
    except ServiceGone:
        sys.exit(0)


def serve(channel: Channel, options: argparse.Namespace) -> None:
    """The engine's life: load, then drain commands, step, deliver."""
    try:
        model, loaded = load(options.model, options.cache_dir, kv_bytes=options.kv_cache_bytes)
    except Exception as error:  # noqa: BLE001 - a folder from elsewhere can be broken in any way; the service reports it
        channel.send(Refused(" ".join(f"{type(error).__name__}: {error}".split())))
        return
    compiler = Compiler(Path(loaded.tokenizer_file), loaded.stop_ids, loaded.vocab_size, channel.wake)
    scheduler = Scheduler(model, _limits(options, loaded.kv_bytes), memory.Footprint.of(model), compiler)
    memory.limit_buffers(loaded.kv_bytes)
    # What the libraries have made is here to stay: a collection that looked at it would take tens of milliseconds.
    gc.collect()
    gc.freeze()
    channel.send(loaded)
    try:
        _run(scheduler, compiler, channel)
    finally:
        compiler.stop()


def _run(scheduler: Scheduler, compiler: Compiler, channel: Channel) -> None:
    """Serve until told to end."""
    tidy = False
    while _obey(channel.receive(min(_HEARTBEAT_S, scheduler.leisure_s)), scheduler, channel):
        if not _gather(scheduler, channel):
            return
        if not scheduler.is_idle:
            channel.send(scheduler.step())
            tidy = False
            continue
        if not tidy:  # once it has been idle for a while: memory that comes back at once is not worth giving away
            compiler.get_ready()
            memory.give_back()
            tidy = True
        channel.send(Heartbeat())


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


def _limits(options: argparse.Namespace, kv_bytes: int) -> Limits:
    prefix = memory.prefix_budget(kv_bytes) if options.prefix_cache_bytes is None else options.prefix_cache_bytes
    return Limits(
        max_running=options.max_running,
        prefill_chunk=options.prefill_chunk or memory.default_chunk(),
        kv_bytes=kv_bytes,
        prefix_bytes=min(prefix, kv_bytes),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="service.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited socket")
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--cache-dir", type=Path, required=True, help="where made files go")
    parser.add_argument("--max-running", type=int, required=True, help="sequences in memory at a time")
    parser.add_argument("--prefill-chunk", type=int, help="prompt tokens processed in one step")
    parser.add_argument("--kv-cache-bytes", type=int, help="memory for keys and values")
    parser.add_argument("--prefix-cache-bytes", type=int, help="the part of it for prefixes; 0 turns them off")
    return parser.parse_args()


if __name__ == "__main__":
    main()

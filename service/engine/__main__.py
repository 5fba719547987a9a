"""The engine process: one model, all MLX on this thread. Started by the service with one end of a socket pair."""

import argparse
import logging
import signal
import socket
import sys
from pathlib import Path

from service.engine.channel import Channel, ServiceGone
from service.engine.frames import Abort, Command, Heartbeat, Refused, Shutdown, Submit
from service.engine.loader import load
from service.engine.scheduler import Scheduler

_HEARTBEAT_S = 0.5


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
        model, loaded = load(options.model, options.cache_dir)
    except Exception as error:  # noqa: BLE001 - a folder from elsewhere can be broken in any way; the service reports it
        channel.send(Refused(" ".join(f"{type(error).__name__}: {error}".split())))
        return
    scheduler = Scheduler(model, max_running=options.max_running, prefill_chunk=options.prefill_chunk)
    channel.send(loaded)
    while _obey(channel.receive(_HEARTBEAT_S if scheduler.is_idle else 0), scheduler):
        channel.send(Heartbeat() if scheduler.is_idle else scheduler.step())


def _obey(commands: list[Command], scheduler: Scheduler) -> bool:
    """Carry out commands; False ends the engine."""
    for command in commands:
        match command:
            case Submit():
                scheduler.submit(command)
            case Abort(seq):
                scheduler.abort(seq)
            case Shutdown():
                return False
    return True


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="service.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited socket")
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--cache-dir", type=Path, required=True, help="where made files go")
    parser.add_argument("--max-running", type=int, required=True, help="sequences in memory at a time")
    parser.add_argument("--prefill-chunk", type=int, required=True, help="prompt tokens processed in one step")
    return parser.parse_args()


if __name__ == "__main__":
    main()

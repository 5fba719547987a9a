"""The engine process: at most one model, all MLX on this thread. Started by the service with one end of a socket pair.

It begins as a spare: it imports all that it will need, says hello, and waits for a model.
"""

import argparse
import importlib
import logging
import os
import signal
import socket
import sys
from contextlib import nullcontext
from typing import Protocol, cast

from service.engine.channel import Channel, ServiceGone
from service.engine.pace import paced
from service.engine.priority import in_background, lowered

_SERVING = "service.engine.serving"
_COMMON = ("mlx_lm.models.llama", "transformers.tokenization_utils_tokenizers")
"""What the load of most models needs, and no module here names."""
_LIBRARIES = ("numpy", "huggingface_hub", "transformers", "transformers.models.auto.tokenization_auto", "llguidance")
"""Most of what there is to import, and all without MLX, of which a process that ends may crash where another thread
than the main one has imported it."""


class _Serving(Protocol):
    def serve(self, channel: Channel) -> None: ...


def main() -> None:
    """Wait for a model and serve it until the service says stop or is gone."""
    logging.basicConfig(format="engine: %(message)s")
    # Signals to the whole process group are the service's to act on: it drains, then ends its engines.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="service.engine", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited socket")
    parser.add_argument("--background", type=float, default=0, metavar="SECONDS", help="how long to yield to others")
    parser.add_argument("--paced", type=float, default=0, metavar="SECONDS", help="how long to do so in small turns")
    options = parser.parse_args()
    channel = Channel(socket.socket(fileno=options.fd))
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # as mlx-lm does, once it is imported
    try:
        with paced(options.paced) if options.paced else nullcontext():
            serving = _imported(options.background, options.fd)
        serving.serve(channel)
    except ServiceGone:
        sys.exit(0)


def _imported(background_s: float, fd: int) -> _Serving:
    """All that is needed."""
    if not background_s:
        return _serving()
    if not in_background(_import_libraries, background_s):
        # Nothing but a new program takes a thread out of the background that has come to no end there.
        os.execv(sys.executable, [sys.executable, "-m", "service.engine", "--fd", str(fd)])  # noqa: S606 - no shell is wanted
    with lowered(background_s):
        return _serving()


def _import_libraries() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)


def _serving() -> _Serving:
    serving = importlib.import_module(_SERVING)
    for name in _COMMON:
        importlib.import_module(name)
    return cast(_Serving, serving)


if __name__ == "__main__":
    main()

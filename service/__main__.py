"""`python -m service`: flags and config file become one record, and the server runs until it is told to stop."""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from pathlib import Path

try:
    import structlog
    import uvloop

    from service.config import DEFAULT_LISTEN, ServiceConfig, parse_model, read_config
    from service.errors import ServiceError, SetupError
    from service.server import Server
except ModuleNotFoundError as missing:  # the thin client has none of the libraries
    sys.exit(f"service: {missing.name} is not installed: pip install '.[service]'")

log = structlog.get_logger()

_CONFIG_ERROR = 2
_START_ERROR = 1


def main() -> None:
    """Run the service; exits 0 after SIGTERM or SIGINT, 2 for a bad configuration, 1 where it cannot start."""
    options = _parser().parse_args()
    try:
        config = _config(options)
    except SetupError as error:
        _fail(error, _CONFIG_ERROR)
    _set_up_logs(config.log_level)
    try:
        uvloop.run(_run(config))
    except ServiceError as error:
        _fail(error, _START_ERROR)


async def _run(config: ServiceConfig) -> None:
    """Serve until a signal comes; a second one ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(config)
    drain_s = config.drain_s
    starting = asyncio.create_task(server.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            drain_s = 0 if starting.exception() else drain_s
            await starting
            gc.freeze()  # else a collection goes through all that has been imported, and holds every stream up
            names = ", ".join(model.name for model in config.models)
            print(f"service ready on {', '.join(server.addresses)} ({names})", flush=True)  # noqa: T201 - the contract
            await stopping
    finally:
        starting.cancel()
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError, ServiceError):
            await starting
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, os._exit, _START_ERROR)  # the engines end with their sockets
        await server.stop(drain_s)
        if stop.is_set():
            log.info("stopped")


def _config(options: argparse.Namespace) -> ServiceConfig:
    flags = {
        name: value for name, value in vars(options).items() if value is not None and name not in {"model", "config"}
    }
    if options.model:
        flags["models"] = tuple(parse_model(text) for text in options.model)
    return read_config(options.config, flags)


def _parser() -> argparse.ArgumentParser:
    defaults = ServiceConfig()
    parser = argparse.ArgumentParser(
        prog="python -m service", description="The mlx-grpc inference service.", allow_abbrev=False
    )
    parser.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help=f"HOST:PORT or unix:PATH; repeatable; port 0 picks a free one (default: {DEFAULT_LISTEN})",
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="ALIAS=SOURCE",
        help="a model folder, a GGUF file, a Hugging Face repository OWNER/NAME, or OWNER/NAME/FILE.gguf; "
        "repeatable, the first is the default model "
        "(default: a small built-in model)",
    )
    parser.add_argument("--config", type=Path, metavar="FILE.toml", help="settings; flags win over it")
    parser.add_argument(
        "--cache-dir",
        metavar="FOLDER",
        help="where fetched and made files go (default: $MLX_GRPC_CACHE, else ~/.cache/mlx-grpc)",
    )
    parser.add_argument(
        "--max-running",
        type=int,
        metavar="N",
        help=f"choices that one model decodes at a time (default: {defaults.max_running})",
    )
    parser.add_argument(
        "--max-queued",
        type=int,
        metavar="N",
        help=f"requests that may wait until one model admits them (default: {defaults.max_queued})",
    )
    parser.add_argument(
        "--memory-bytes",
        type=int,
        metavar="N",
        help="memory for all models together (default: half of the machine's, or 4/5 of a GPU's)",
    )
    parser.add_argument(
        "--model-folder",
        action="append",
        metavar="FOLDER",
        dest="model_folders",
        help="a folder whose models and LoRAs callers may name; repeatable (default: none)",
    )
    parser.add_argument(
        "--kv-cache-bytes",
        type=int,
        metavar="N",
        help="memory for the keys and values of each model (default: a fair part of what the weights leave)",
    )
    parser.add_argument(
        "--prefix-cache-bytes",
        type=int,
        metavar="N",
        help="the part of it for prompts that may come again, 0 for none (default: a quarter)",
    )
    parser.add_argument(
        "--drain-s",
        type=float,
        metavar="S",
        help=f"seconds that running streams may take to finish after SIGTERM (default: {defaults.drain_s:g})",
    )
    parser.add_argument(
        "--log-level",
        metavar="LEVEL",
        help=f"debug, info, warning or error (default: {defaults.log_level})",
    )
    return parser


def _set_up_logs(level: str) -> None:
    """Events as JSON lines on standard error."""
    structlog.configure(
        processors=[
            _sign,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _sign(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:  # noqa: ARG001
    """Say who speaks: the shim often logs to the same place."""
    return {"event": event.pop("event"), "from": "service", **event}


def _fail(error: ServiceError, code: int) -> None:
    """One line for a person, and out."""
    print(f"service: {error}", file=sys.stderr)  # noqa: T201 - there may be no log yet
    sys.exit(code)


if __name__ == "__main__":
    main()

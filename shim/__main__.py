"""`python -m shim`: flags and config file, to a running shim."""

import sys
from collections.abc import Sequence
from functools import partial

try:
    import uvloop

    import shim.grpc_core  # noqa: F401 - before all that imports grpc
    from shim import logs
    from shim.config import Config, ConfigError
    from shim.options import read_config
    from shim.server import bind, ready_line, serve
    from shim.workers import Supervisor, WorkerError
except ModuleNotFoundError as missing:  # the thin client has none of the libraries
    sys.exit(f"shim: {missing.name} is not installed: pip install '.[shim]'")


def main(argv: Sequence[str]) -> int:
    """Run the shim; the exit code is 2 for bad flags or config, 1 where it cannot start."""
    try:
        config = read_config(argv)
    except ConfigError as error:
        return _fail(str(error), 2)
    try:
        return _run(config)
    except OSError as error:
        return _fail(f"cannot listen on {config.listen}: {error.strerror or error}", 1)
    except WorkerError as error:
        return _fail(str(error), 1)


def _run(config: Config) -> int:
    bound = bind(config.address)
    logs.configure(config.log_level)
    on_ready = partial(print, ready_line(config, bound), flush=True)
    if config.workers == 1:
        uvloop.run(serve(config, bound, on_ready))
    else:
        uvloop.run(Supervisor(config, bound).run(on_ready))
    return 0


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"shim: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Flags and the config file, to one Config."""

import argparse
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from shim.config import Config, ConfigError, FieldError

_TYPE_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
_LISTS = ("service", "cors_origins")
_KEYS: dict[str, type] = {
    "listen": str,
    "workers": int,
    "drain_s": float,
    "max_body_bytes": int,
    "deadline_s": float,
    "keep_alive_s": float,
    "head_timeout_s": float,
    "body_timeout_s": float,
    "write_timeout_s": float,
    "gzip": bool,
    "log_level": str,
}


class _Parser(argparse.ArgumentParser):
    """Reports a bad flag in one line."""

    def error(self, message: str) -> NoReturn:
        """Write the line and exit with 2."""
        sys.stderr.write(f"shim: {message}\n")
        sys.exit(2)


def read_config(argv: Sequence[str]) -> Config:
    """Read the flags and the file that they name, flags first; ConfigError where they cannot be used."""
    flags = {name: value for name, value in vars(_parser().parse_args(argv)).items() if value is not None}
    path: Path | None = flags.pop("config", None)
    values = (_read_file(path) if path else {}) | flags
    values |= {name: tuple(values[name]) for name in _LISTS if name in values}
    try:
        return Config(**values)
    except FieldError as error:
        name = f"--{error.field.replace('_', '-')}" if error.field in flags else f"{path}: {error.field}"
        raise ConfigError(f"{name}: {error.reason}") from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m shim", description="OpenAI's HTTP API over the mlx-grpc service.", allow_abbrev=False
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="where to listen; default 127.0.0.1:8000, port 0 picks one"
    )
    parser.add_argument(
        "--service",
        action="append",
        metavar="HOST:PORT|unix:PATH",
        help="the gRPC service; repeat for several replicas; default 127.0.0.1:50051",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that share the port; default 1")
    parser.add_argument(
        "--drain-s", type=float, metavar="S", help="seconds that running streams may take to finish; default 600"
    )
    parser.add_argument("--log-level", metavar="LEVEL", help="debug, info, warning or error; default info")
    parser.add_argument(
        "--config", type=Path, metavar="FILE.toml", help="a file that says the same and more; flags win"
    )
    return parser


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return {key: _checked(path, key, value) for key, value in table.items()}


def _checked(path: Path, key: str, value: object) -> object:
    if key in _LISTS:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise ConfigError(f"{path}: {key}: must be a string or a list of strings")
        return values
    kind = _KEYS.get(key)
    if kind is None:
        raise ConfigError(f"{path}: unknown key: {key}")
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{path}: {key}: must be {_TYPE_NAMES[kind]}")
    return value

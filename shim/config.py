"""What the shim can be told, checked where it is defined."""

import math
import re
from dataclasses import dataclass

LOG_LEVELS = ("debug", "info", "warning", "error")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s]+")


class ConfigError(ValueError):
    """A flag or a key of the config file that cannot be used; the text says which and why."""


class FieldError(ConfigError):
    """A field of Config that cannot be used, and why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address to listen on; port 0 picks a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read HOST:PORT, an IPv6 host in brackets; ConfigError where it is neither."""
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        bracketed = bare != host
        if not colon or not bare or (":" in bare and not bracketed):
            raise ConfigError(f"not HOST:PORT: {text!r}")
        if not (port.isascii() and port.isdigit() and int(port) <= 65535):  # noqa: PLR2004 - the highest TCP port
            raise ConfigError(f"not a port from 0 to 65535: {text!r}")
        return cls(bare, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the shim's flags and its config file say.

    Raises FieldError for a value that cannot be used.
    """

    listen: str = "127.0.0.1:8000"
    """HOST:PORT of the HTTP side."""
    service: tuple[str, ...] = ("127.0.0.1:50051",)
    """Replicas of the gRPC service, each HOST:PORT or unix:PATH."""
    workers: int = 1
    """Processes that share the listening socket."""
    drain_s: float = 600.0
    """Longest time, in seconds, that running requests get after SIGTERM."""
    max_body_bytes: int = 4 * 1024 * 1024
    """Largest request body that is read."""
    deadline_s: float | None = None
    """Deadline of a call to the service, in seconds; None leaves it to the client to give up."""
    keep_alive_s: float = 15.0
    """Quiet seconds in a stream after which it gets a comment; 0 is never."""
    head_timeout_s: float = 15.0
    """Longest time, in seconds, that the head of a request may take to arrive."""
    body_timeout_s: float = 60.0
    """Longest time, in seconds, that the body of a request may take to arrive."""
    write_timeout_s: float = 60.0
    """Longest time, in seconds, that a client may leave full buffers unread before its connection is cut."""
    gzip: bool = True
    """Whether whole answers are compressed for clients that take that; streams never are."""
    log_level: str = "info"
    """What is logged, one of LOG_LEVELS and what is graver."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may call the shim from a browser, each scheme://host[:port], or * for all."""

    def __post_init__(self) -> None:
        self._check_addresses()
        if not 1 <= self.workers <= 256:  # noqa: PLR2004 - said in the message
            raise FieldError("workers", f"must be between 1 and 256, not {self.workers}")
        for name in ("drain_s", "keep_alive_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise FieldError(name, f"must be 0 or more and finite, not {getattr(self, name)}")
        for name in ("head_timeout_s", "body_timeout_s", "write_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise FieldError(name, f"must be above 0 and finite, not {getattr(self, name)}")
        if self.max_body_bytes < 1:
            raise FieldError("max_body_bytes", f"must be 1 or more, not {self.max_body_bytes}")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise FieldError("deadline_s", f"must be above 0, not {self.deadline_s}")
        if self.log_level not in LOG_LEVELS:
            raise FieldError("log_level", f"must be one of {', '.join(LOG_LEVELS)}, not {self.log_level!r}")

    def _check_addresses(self) -> None:
        _parsed("listen", self.listen)
        if not self.service:
            raise FieldError("service", "at least one address is needed")
        for target in self.service:
            _check_target(target)
        for origin in self.cors_origins:
            _check_origin(origin)

    @property
    def address(self) -> Address:
        """Where to listen."""
        return Address.parse(self.listen)


def _parsed(field: str, text: str) -> Address:
    try:
        return Address.parse(text)
    except ConfigError as error:
        raise FieldError(field, str(error)) from error


def _check_origin(origin: str) -> None:
    # What a browser sends has no path, not even a slash, and is compared as it is.
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise FieldError("cors_origins", f"not * or scheme://host[:port]: {origin!r}")


def _check_target(target: str) -> None:
    if target.startswith("unix:"):
        if target == "unix:":
            raise FieldError("service", "unix: needs a path")
        return
    if _parsed("service", target).port == 0:
        raise FieldError("service", f"port 0 cannot be called: {target!r}")

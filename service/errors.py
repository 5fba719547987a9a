"""Failures that a caller can meet. Each knows what went wrong; `servicers.status` says it in gRPC's words."""

from collections.abc import Iterator
from contextlib import contextmanager

MAX_QUOTED = 200
"""Characters of a caller's own value in an error: what is in a status has to fit into HTTP/2 trailers."""


def quoted(value: str) -> str:
    """A caller's value for the text of an error, cut where it is long."""
    return repr(value if len(value) <= MAX_QUOTED else value[:MAX_QUOTED] + "…")


class ServiceError(Exception):
    """Any failure that has a meaning for the caller. Its text may be shown to them."""


class FieldError(ServiceError):
    """Something is wrong with one field of the request.

    `field` is the dotted path from where it was raised; `under` puts the rest in front.
    """

    def __init__(self, field: str, reason: str) -> None:
        """`reason` is a phrase with the field as its subject, such as "must be at most 2"."""
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field} {self.reason}"


class InvalidField(FieldError):
    """A field's value is not allowed."""


class UnsupportedField(FieldError):
    """A field asks for something that this server does not do."""

    def __init__(self, field: str, reason: str = "is not supported yet") -> None:
        super().__init__(field, reason)


class ContextTooLong(ServiceError):
    """A prompt leaves no room in the model's context. Both figures are in tokens."""

    def __init__(self, limit: int, got: int, *, counted: bool = True) -> None:
        """`got` is the least that the prompt can have where it was not `counted`."""
        tokens = f"{got} tokens" if counted else f"at least {got} tokens"
        # Some clients tell this error by its words, which are those of OpenAI's.
        super().__init__(
            f"this model's maximum context length is {limit} tokens, and the prompt has {tokens}, "
            "which leaves no room for an answer"
        )
        self.limit = limit
        self.got = got


class InsufficientMemory(ServiceError):
    """A request can never fit into the model's memory for keys and values. Both figures are in tokens."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(
            f"the prompt and its answer need memory for {needed} tokens, and there is memory for {available}"
        )
        self.needed = needed
        self.available = available


class ModelTooLarge(ServiceError):
    """A model can never fit into the memory that the service has for models. Both figures are in bytes."""

    def __init__(self, model: str, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(
            f"model {quoted(model)} needs {needed_bytes} bytes of memory, and at most {max(available_bytes, 0)} bytes "
            "can be made free for it"
        )
        self.model = model[:MAX_QUOTED]
        self.needed_bytes = needed_bytes
        self.available_bytes = max(available_bytes, 0)


class DeadlineExceeded(ServiceError):
    """The request could not be started or finished in the time that the caller gave it."""

    def __init__(self) -> None:
        super().__init__("the request ran out of the time that its deadline left")


class UnknownModel(ServiceError):
    """No model has this alias."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no model {quoted(name)}")
        self.name = name[:MAX_QUOTED]


class UnknownLora(ServiceError):
    """A model has no LoRA of this name."""

    def __init__(self, model: str, name: str) -> None:
        super().__init__(f"model {quoted(model)} has no LoRA {quoted(name)}")
        self.model = model[:MAX_QUOTED]
        self.name = name[:MAX_QUOTED]


class PathNotAllowed(ServiceError):
    """A caller named a path that is outside of the folders that models may come from."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{quoted(path)} is not in a folder that models may be loaded from")
        self.path = path[:MAX_QUOTED]


class NoChatTemplate(ServiceError):
    """A conversation was sent to a model that has no chat template."""

    def __init__(self, model: str) -> None:
        super().__init__(f"model {model!r} has no chat template; use Generate")
        self.model = model


class QueueFull(ServiceError):
    """Too many requests are waiting for the model. `retry_after` is in seconds."""

    def __init__(self, model: str, retry_after: float = 1.0) -> None:
        super().__init__(f"too many requests are waiting for model {model!r}")
        self.model = model
        self.retry_after = retry_after


class Unavailable(ServiceError):
    """The request was cut or cannot be taken now, and may be sent again after `retry_after` seconds."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class EngineFault(Exception):
    """The engine failed on this request alone. The text is the engine's and is not for the caller."""


class SetupError(ServiceError):
    """The service cannot start: the text is the one line that says why."""


@contextmanager
def under(path: str) -> Iterator[None]:
    """Puts `path` in front of the field that an error raised inside names."""
    try:
        yield
    except FieldError as error:
        error.field = f"{path}{error.field}" if error.field.startswith("[") else f"{path}.{error.field}"
        raise

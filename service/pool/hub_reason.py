"""Why something could not be fetched from the Hugging Face hub, in one line."""

from http import HTTPStatus

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

_LIBRARY = "httpx"
"""What the names of the packages begin with whose errors are about connections."""


def reason_of(error: BaseException, revision: str | None = None) -> str:  # noqa: PLR0911 - one a kind
    """Say what an error of the hub's library means; `revision` is the one that was asked for."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return reason_of(error.__cause__, revision)
    match error:
        case GatedRepoError():
            return "you have to ask for access to it on the hub first, and set HF_TOKEN"
        case RepositoryNotFoundError():
            return "there is no such repository that you can read"
        case RevisionNotFoundError():
            return f"it has no revision {revision}"
        case OfflineModeIsEnabled():
            return "it is not whole in the cache, and HF_HUB_OFFLINE keeps the hub from being asked"
        case HfHubHTTPError():
            return _answered(error.response.status_code)
        case OSError() | ValueError():
            return _one_line(error) or type(error).__name__
    if type(error).__module__.startswith(_LIBRARY):
        return f"the connection to the hub failed: {_one_line(error) or type(error).__name__}"
    return f"the hub is not understood: {type(error).__name__}: {_one_line(error)}"


def _answered(status: int) -> str:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return "the hub answers 401: set HF_TOKEN to a token that it knows"
        case HTTPStatus.FORBIDDEN:
            return "the hub answers 403: the token in HF_TOKEN must not read it"
        case HTTPStatus.NOT_FOUND:
            return "the hub answers 404: there is no such thing"
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "the hub answers 429: it has been asked too often, try again later"
    return (
        f"the hub answers {status}, try again later"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR
        else f"the hub answers {status}"
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())

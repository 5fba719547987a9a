"""Who asks, as the service is told: a hash, so that neither key nor user can be read in its logs."""

import hashlib

from starlette.requests import Request

METADATA_KEY = "x-mlx-grpc-caller"
_DIGITS = 32


def caller_of(http: Request, user: str | None) -> str | None:
    """Name the caller by its API key, else by the `user` of its request's body; None where it tells neither."""
    if key := _api_key(http):
        return _hashed("key", key)
    return _hashed("user", user) if user else None


def _api_key(http: Request) -> str:
    scheme, _, key = http.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _hashed(kind: str, secret: str) -> str:
    """Hash it under its kind, so that nobody becomes another caller by the name of a key."""
    return hashlib.sha256(f"mlx-grpc caller {kind}: {secret}".encode()).hexdigest()[:_DIGITS]

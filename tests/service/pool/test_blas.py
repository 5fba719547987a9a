"""The environment of an engine."""

import ctypes.util

import pytest
import structlog

from service.pool import blas


@pytest.fixture(autouse=True)
def on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)


def found(monkeypatch: pytest.MonkeyPatch, library: str | None) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: library)


def test_openblas_is_put_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the threads that are set."""
    found(monkeypatch, "libopenblas.so.0")
    environment = blas.engine_environment(3)
    assert (environment["LD_PRELOAD"], environment["OPENBLAS_NUM_THREADS"]) == ("libopenblas.so.0", "3")


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their threads, and what they load before."""
    found(monkeypatch, "libopenblas.so.0")
    monkeypatch.setenv("LD_PRELOAD", "mine.so")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")
    environment = blas.engine_environment(1)
    assert (environment["LD_PRELOAD"], environment["OPENBLAS_NUM_THREADS"]) == ("mine.so:libopenblas.so.0", "8")


def test_without_it_the_user_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine starts all the same."""
    found(monkeypatch, None)
    with structlog.testing.capture_logs() as entries:
        environment = blas.engine_environment(1)
    assert "LD_PRELOAD" not in environment
    assert "apt-get install libopenblas0" in entries[0]["event"]


def test_elsewhere_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX on macOS has a BLAS of its own."""
    monkeypatch.setattr("sys.platform", "darwin")
    found(monkeypatch, "libopenblas.dylib")
    assert "LD_PRELOAD" not in blas.engine_environment(1)

"""How much memory a process takes."""

import psutil
import pytest

from service.engine.usage import rss_bytes

MIB = 1 << 20


def test_it_is_what_the_system_counts() -> None:
    """As other tools see it, and more with what is allocated."""
    before = rss_bytes()
    assert before == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    held = bytearray(b"x" * (64 * MIB))
    assert rss_bytes() - before > 60 * MIB
    del held

"""A salt has bounds."""

import pytest

from service.errors import InvalidField
from service.types import Cache


def test_a_salt_has_bounds() -> None:
    """In characters, whatever they are."""
    assert len(Cache("é" * 256).salt) == 256
    with pytest.raises(InvalidField) as raised:
        Cache("x" * 257)
    assert raised.value.field == "salt"

"""Failures that a caller can meet."""

import pytest

from service.errors import ContextTooLong, FieldError, InvalidField, UnsupportedField, under


@pytest.mark.parametrize(
    ("outer", "inner", "path"), [("sampling", "top_p", "sampling.top_p"), ("messages", "[3]", "messages[3]")]
)
def test_a_path_is_put_together(outer: str, inner: str, path: str) -> None:
    """With a dot before a name and none before an index."""
    with pytest.raises(InvalidField) as raised, under(outer):
        raise InvalidField(inner, "is wrong")
    assert (raised.value.field, str(raised.value)) == (path, f"{path} is wrong")


def test_paths_nest() -> None:
    """The outermost part comes first."""
    with pytest.raises(FieldError) as raised, under("a"), under("b[1]"):
        raise UnsupportedField("c")
    assert str(raised.value) == "a.b[1].c is not supported yet"


def test_other_failures_pass() -> None:
    """They have no path."""
    with pytest.raises(ContextTooLong), under("a"):
        raise ContextTooLong(8, 9)

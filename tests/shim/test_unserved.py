"""What would change the answer and is not served."""

from typing import Any

import pytest

from shim import unserved
from shim.errors import ApiError
from shim.unserved import Unserved

TABLES = {"chat": unserved.CHAT, "completions": unserved.COMPLETIONS, "typed": unserved.TYPED}
FIELDS = [(table, name) for table, fields in TABLES.items() for name in fields]


@pytest.mark.parametrize(("table", "name"), FIELDS)
def test_each_is_refused_by_name(table: str, name: str) -> None:
    """A value that nobody expects is a 400, and those that ask for nothing are not."""
    fields: Unserved = TABLES[table]
    for harmless in (None, *fields[name]):
        unserved.refuse({"model": "tiny", name: harmless}, fields)
    with pytest.raises(ApiError) as refused:
        unserved.refuse({name: {"surprise": 1}}, fields)
    error = refused.value.body["error"]
    assert (refused.value.status, error["param"], error["code"]) == (400, name, "unsupported_parameter")
    assert error["message"].startswith(name)


@pytest.mark.parametrize(
    "fields",
    [
        {"store": True, "metadata": {"a": "b"}, "user": "u", "safety_identifier": "s", "service_tier": "priority"},
        {"prediction": {"type": "content", "content": "x"}, "modalities": ["text"], "verbosity": "medium"},
        {"prompt_cache_retention": "24h", "surprise": [1], "echo": False, "n": 2, "logprobs": True},
    ],
)
def test_what_changes_no_answer_is_let_pass(fields: dict[str, Any]) -> None:
    """Who asks for storage, a tier or speed gets the same answer."""
    unserved.refuse(fields, unserved.CHAT)


@pytest.mark.parametrize(
    "fields", [{"skip_special_tokens": 1}, {"use_beam_search": 0}, {"length_penalty": True}], ids=str
)
def test_a_number_is_no_truth_value(fields: dict[str, Any]) -> None:
    """In JSON they differ, as Python has them not."""
    with pytest.raises(ApiError):
        unserved.refuse(fields, unserved.CHAT)


def test_the_document_tells_the_values_that_are_taken() -> None:
    """They, and null."""
    assert unserved.described({"a": (), "b": (True, [])}) == {"a": {"enum": [None]}, "b": {"enum": [None, True, []]}}

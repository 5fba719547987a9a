"""What one field says of another."""

import pytest
from jsonschema import Draft202012Validator

from shim.relations import CHAT, COMPLETIONS, Relation


@pytest.mark.parametrize(
    ("relation", "good", "bad"),
    [
        (CHAT[0], {"stream_options": {}, "stream": True}, {"stream_options": {}, "stream": None}),
        (CHAT[1], {"top_logprobs": 0}, {"top_logprobs": 1, "logprobs": False}),
        (CHAT[2], {"tool_choice": "auto", "tools": []}, {"tool_choice": {"type": "function"}, "tools": []}),
        (COMPLETIONS[1], {"max_tokens": 0, "echo": True}, {"max_tokens": 0}),
    ],
)
def test_a_relation_is_a_schema(relation: Relation, good: dict[str, object], bad: dict[str, object]) -> None:
    """It holds where the other field says what is needed, and where the first says nothing."""
    schema = relation.described()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid(good)
    assert validator.is_valid({})
    assert validator.is_valid({relation.field: None})
    assert not validator.is_valid(bad)

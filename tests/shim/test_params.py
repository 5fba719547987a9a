"""Wire paths in the client's names."""

import pytest

from shim.params import Params


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("sampling.top_p", "top_p"),
        ("sampling.logit_bias[99999]", "logit_bias"),
        ("stopping.max_tokens", "max_tokens"),
        ("stopping.stop[1]", "stop"),
        ("stopping.include_stop", "include_stop"),
        ("output.top_logprobs", "top_logprobs"),
        ("messages", "messages"),
        ("messages[0].content", "messages[0].content"),
        ("messages[0].content[1].text", "messages[0].content"),
        ("messages[2].role", "messages[2].role"),
        ("messages[2].reasoning", "messages[2].reasoning_content"),
        ("messages[2].tool_calls[1].name", "messages[2].tool_calls[1].function.name"),
        ("tools[0].name", "tools[0].function.name"),
        ("tools[0].parameters_json", "tools[0].function.parameters"),
        ("tools", "tools"),
        ("tool_choice.function_name", "tool_choice"),
        ("constraint.json_schema", "response_format"),
        ("reasoning.effort", "reasoning_effort"),
        ("reasoning.budget", "thinking_budget"),
        ("text", "prompt"),
        ("token_ids.ids[3]", "prompt"),
        ("n", "n"),
        ("priority", "priority"),
        ("cache.salt", "prompt_cache_key"),
        ("model", "model"),
        ("lora", "model"),
    ],
)
def test_a_wire_path_is_told_in_openais_name(path: str, name: str) -> None:
    """Clients are told of the fields that they sent, not of ours."""
    assert Params("messages").name(path) == name


def test_aliases_name_what_this_client_sent() -> None:
    """A field with several spellings is told as it was spelled."""
    params = Params("prompt", {"top_logprobs": "logprobs"})
    assert params.name("output.top_logprobs") == "logprobs"

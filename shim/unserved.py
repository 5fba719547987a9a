"""Fields that would change the answer and that nothing serves, each with the values that ask for nothing."""

from collections.abc import Mapping

import orjson
from pydantic.json_schema import JsonSchemaValue

from shim.errors import bad_request

Unserved = dict[str, tuple[object, ...]]

# Those of other open servers: who moves here is told what does not come along.
_EXTENSIONS: Unserved = {
    "allowed_token_ids": ([],),
    "bad_words": ([],),
    "ebnf": (),
    "guided_whitespace_pattern": (),
    "length_penalty": (1,),
    "logits_processors": ([],),
    "prompt_logprobs": (),
    "skip_special_tokens": (True,),
    "structural_tag": (),
    "truncate_prompt_tokens": (),
    "typical_p": (1,),
    "use_beam_search": (False,),
}
CHAT: Unserved = _EXTENSIONS | {
    "add_generation_prompt": (True,),
    "add_special_tokens": (False,),
    "audio": (),
    "chat_template": (),
    "continue_final_message": (False,),
    "documents": ([],),
    "echo": (False,),
    "function_call": (),
    "functions": (),
    "include_reasoning": (True,),
    "modalities": (["text"],),
    "moderation": (),
    "separate_reasoning": (True,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
COMPLETIONS: Unserved = _EXTENSIONS | {"add_special_tokens": (True,), "suffix": ("",)}
TYPED: Unserved = CHAT | {
    "logprobs": (False,),
    "n": (1,),
    "stream_options": (),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
}
"""What typed events have no place for comes on top."""

_INSTEAD = {
    "function_call": "use tool_choice",
    "functions": "use tools",
    "moderation": "nothing here moderates",
}


def refuse(body: Mapping[str, object], unserved: Unserved) -> None:
    """Raise ApiError 400 for the first field that asks for what nothing serves."""
    for name, accepted in unserved.items():
        value = body.get(name)
        if value is not None and not any(_is_same(value, each) for each in accepted):
            raise bad_request(f"{name} is not supported{_hint(name, accepted)}.", name, "unsupported_parameter")


def described(unserved: Unserved) -> dict[str, JsonSchemaValue]:
    """Describe the fields by the values that are taken."""
    return {name: {"enum": [None, *accepted]} for name, accepted in unserved.items()}


def _is_same(value: object, accepted: object) -> bool:
    """Whether JSON would call them the same, where true is not 1."""
    return value == accepted and isinstance(value, bool) == isinstance(accepted, bool)


def _hint(name: str, accepted: tuple[object, ...]) -> str:
    if name in _INSTEAD:
        return f"; {_INSTEAD[name]}"
    return f"; only {orjson.dumps(accepted[0]).decode()} is" if accepted else ""

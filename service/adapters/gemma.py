"""Gemma 1 to 4.

Formats: https://ai.google.dev/gemma/docs/core/prompt-structure; for Gemma 4 its published chat template.
"""

from service.adapters.base import ModelAdapter, ToolFormat
from service.text.markup import Markup, State

GEMMA = ModelAdapter(
    name="gemma",
    end_of_turn=("<end_of_turn>", "<eos>"),
    template=(
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{% if message['role'] not in ['user', 'assistant'] %}{{ raise_exception('Role not supported') }}{% endif %}"
        "{% set role = 'model' if message['role'] == 'assistant' else 'user' %}"
        "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
)

_THOUGHT = "<|channel>thought"
_CLOSING = "<channel|>"
_OUTSIDE = {_THOUGHT: State.OPENED}

GEMMA4 = ModelAdapter(
    name="gemma4",
    end_of_turn=("<turn|>", "<eos>"),
    template=(
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
        "{{ '<|turn>' + role + '\\n' + message['content'] | trim + '<turn|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|turn>model\\n' }}{% endif %}"
    ),
    markup=Markup(
        opening=_THOUGHT,
        evidence=("<|channel>", _CLOSING),
        transitions={
            State.START: _OUTSIDE,
            State.OPENED: {_CLOSING: State.CLOSED},
            State.REASONING: {_CLOSING: State.CLOSED},
            # Another thought may follow, before a tool call for one.
            State.CLOSED: _OUTSIDE,
            State.ANSWER: _OUTSIDE,
        },
    ),
    tool_format=ToolFormat.GEMMA,
)

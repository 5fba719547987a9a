"""Mistral, Mixtral, Ministral and Magistral.

Formats: https://docs.mistral.ai/guides/tokenization; the markers of native reasoning are control tokens from
Magistral 2507 on: https://docs.mistral.ai/capabilities/reasoning/native.
"""

from service.adapters.base import ModelAdapter, ToolFormat
from service.text.markup import think

MISTRAL = ModelAdapter(
    name="mistral",
    end_of_turn=("</s>",),
    template=(
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported') }}"
        "{% endif %}"
        "{% endfor %}"
    ),
    markup=think("[THINK]", "[/THINK]"),
    tool_format=ToolFormat.MISTRAL,
    thinking_parts=True,
)

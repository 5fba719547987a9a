"""DeepSeek V2 and V3, R1 and its distilled models.

Formats: the model cards, https://huggingface.co/deepseek-ai/DeepSeek-V2-Chat and
https://huggingface.co/deepseek-ai/DeepSeek-R1.
"""

# ruff: noqa: RUF001 - the bars in their tokens are fullwidth ones

from dataclasses import replace

from service.adapters.base import ModelAdapter, ToolFormat

ASSISTANT = "<｜Assistant｜>"
"""Begins an answer, from V2.5 on."""
_END = "<｜end▁of▁sentence｜>"

DEEPSEEK2 = ModelAdapter(
    name="deepseek2",
    end_of_turn=(_END,),
    template=(
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n\\n' }}"
        "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
        "{% else %}{{ message['content'] + '\\n\\n' }}"
        "{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
)

_TURNS = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}"
    "{% else %}{{ message['content'] }}"
    "{% endif %}"
    "{% endfor %}"
)

DEEPSEEK = ModelAdapter(
    name="deepseek",
    end_of_turn=(_END, "<|EOT|>"),
    template=_TURNS + "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}",
    tool_format=ToolFormat.DEEPSEEK,
)

DEEPSEEK_R1 = replace(
    DEEPSEEK,
    name="deepseek-r1",
    template=_TURNS + "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}",
)

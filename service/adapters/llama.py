"""Llama 2, 3 and 4.

Formats: https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/text_prompt_format.md,
https://github.com/meta-llama/llama-models/blob/main/models/llama4/prompt_format.md and
https://github.com/meta-llama/llama (`llama/generation.py`) for Llama 2.
"""

from service.adapters.base import ModelAdapter, ToolFormat

LLAMA2 = ModelAdapter(
    name="llama2",
    end_of_turn=("</s>",),
    template=(
        "{% set ns = namespace(system='') %}"
        "{% for message in messages %}"
        "{% if message['role'] == 'system' %}"
        "{% set ns.system = '<<SYS>>\\n' + message['content'] + '\\n<</SYS>>\\n\\n' %}"
        "{% elif message['role'] == 'user' %}"
        "{{ bos_token + '[INST] ' + ns.system + message['content'] | trim + ' [/INST]' }}"
        "{% set ns.system = '' %}"
        "{% elif message['role'] == 'assistant' %}"
        "{{ ' ' + message['content'] | trim + ' ' + eos_token }}"
        "{% else %}{{ raise_exception('Only system, user and assistant roles are supported') }}"
        "{% endif %}"
        "{% endfor %}"
    ),
)

LLAMA3 = ModelAdapter(
    name="llama3",
    # <|eom_id|> ends a message that calls a built-in tool; the turn is the caller's then.
    end_of_turn=("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    template=(
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"
        " + message['content'] | trim + '<|eot_id|>' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    tool_format=ToolFormat.LLAMA,
)

LLAMA4 = ModelAdapter(
    name="llama4",
    end_of_turn=("<|eot|>", "<|eom|>", "<|end_of_text|>"),
    template=(
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{{ '<|header_start|>' + message['role'] + '<|header_end|>\\n\\n' + message['content'] | trim + '<|eot|>' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|header_start|>assistant<|header_end|>\\n\\n' }}{% endif %}"
    ),
    tool_format=ToolFormat.LLAMA4,
)

"""Phi 3, 3.5 and 4, and the reasoning models of Phi 4.

Formats: the model cards, https://huggingface.co/microsoft/Phi-3.5-mini-instruct and
https://huggingface.co/microsoft/phi-4.
"""

from service.adapters.base import ModelAdapter, ToolFormat

PHI3 = ModelAdapter(
    name="phi3",
    end_of_turn=("<|end|>", "<|endoftext|>"),
    template=(
        "{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    tool_format=ToolFormat.PHI,
)

PHI4 = ModelAdapter(
    name="phi4",
    end_of_turn=("<|im_end|>", "<|endoftext|>"),
    template=(
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"
    ),
    tool_format=ToolFormat.PHI,
)

"""ChatML: Qwen 2, 2.5 and 3, SmolLM and many others."""

from service.adapters.base import ModelAdapter, ToolFormat

CHATML = ModelAdapter(
    name="chatml",
    end_of_turn=("<|im_end|>", "<|endoftext|>"),
    template=(
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    tool_format=ToolFormat.HERMES,
)

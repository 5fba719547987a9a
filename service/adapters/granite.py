"""IBM's Granite 3 and 4: https://www.ibm.com/granite/docs/models/granite."""

from service.adapters.base import ModelAdapter, ToolFormat
from service.text.markup import wrapped

_THINK, _END_THINK = "<think>", "</think>"
_RESPONSE, _END_RESPONSE = "<response>", "</response>"

GRANITE = ModelAdapter(
    name="granite",
    end_of_turn=("<|end_of_text|>",),
    template=(
        "{% for message in messages %}"
        "{{ '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
    ),
    markup=wrapped(_THINK, _END_THINK, _RESPONSE, _END_RESPONSE, evidence=(_THINK, _RESPONSE)),
    tool_format=ToolFormat.GRANITE,
)

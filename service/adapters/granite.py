"""IBM's Granite 3 and 4: https://www.ibm.com/granite/docs/models/granite."""

from service.adapters.base import ModelAdapter, ToolFormat
from service.text.markup import Markup, State

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
    markup=Markup(
        opening=_THINK,
        evidence=(_THINK, _RESPONSE),
        transitions={
            State.START: {_THINK: State.OPENED, _RESPONSE: State.WRAPPED},
            State.OPENED: {_THINK: State.OPENED, _END_THINK: State.CLOSED},
            State.REASONING: {_END_THINK: State.CLOSED},
            State.CLOSED: {_RESPONSE: State.WRAPPED},
            State.WRAPPED: {_END_RESPONSE: State.ANSWER},
        },
    ),
    tool_format=ToolFormat.GRANITE,
)

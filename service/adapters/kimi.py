"""Kimi K3; K2 is as the default has it.

Format: https://huggingface.co/moonshotai.
"""

from service.adapters.base import ModelAdapter, ToolFormat
from service.text.markup import wrapped

_MESSAGE, _END_MESSAGE = '<|open|>message role="', "<|close|>message<|sep|>"
_THINK, _END_THINK = "<|open|>think<|sep|>", "<|close|>think<|sep|>"
_RESPONSE, _END_RESPONSE = "<|open|>response<|sep|>", "<|close|>response<|sep|>"

KIMI_K3 = ModelAdapter(
    name="kimi-k3",
    end_of_turn=("<|end_of_msg|>",),
    template=(
        "{% for message in messages %}"
        f"{{{{ '{_MESSAGE}' + message['role'] + '\"<|sep|>' }}}}"
        "{% if message['role'] == 'assistant' %}"
        f"{{{{ '{_THINK}{_END_THINK}{_RESPONSE}' + message['content'] + '{_END_RESPONSE}' }}}}"
        "{% else %}{{ message['content'] }}"
        "{% endif %}"
        f"{{{{ '{_END_MESSAGE}<|end_of_msg|>' }}}}"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ '{_MESSAGE}assistant\"<|sep|>{_THINK}' }}}}{{% endif %}}"
    ),
    markup=wrapped(
        _THINK, _END_THINK, _RESPONSE, _END_RESPONSE, evidence=("<|open|>", "<|close|>", "<|sep|>"), end=_END_MESSAGE
    ),
    tool_format=ToolFormat.KIMI_K3,
)

"""Cohere's Command R, R7B and A.

Format: https://docs.cohere.com/docs/command-r7b-hf.
"""

from service.adapters.base import ModelAdapter, ToolFormat
from service.text.markup import wrapped

START_OF_TURN = "<|START_OF_TURN_TOKEN|>"
_END_OF_TURN = "<|END_OF_TURN_TOKEN|>"

COHERE = ModelAdapter(
    name="cohere",
    end_of_turn=(_END_OF_TURN,),
    template=(
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{% set role = 'CHATBOT' if message['role'] == 'assistant' else message['role'] | upper %}"
        f"{{{{ '{START_OF_TURN}<|' + role + '_TOKEN|>' + message['content'] + '{_END_OF_TURN}' }}}}"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ '{START_OF_TURN}<|CHATBOT_TOKEN|>' }}}}{{% endif %}}"
    ),
    markup=wrapped(
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        "<|START_RESPONSE|>",
        "<|END_RESPONSE|>",
        evidence=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    tool_format=ToolFormat.COHERE,
)

"""GPT-OSS, which writes OpenAI's harmony format: https://cookbook.openai.com/articles/openai-harmony."""

from service.adapters.base import ModelAdapter, ToolFormat
from service.text.markup import Markup, State

_OPENING = "<|channel|>analysis<|message|>"
_CHANNELS = {
    _OPENING: State.OPENED,
    "<|channel|>final<|message|>": State.ANSWER,
    # Without a recipient this is a preamble to tool calls, meant for the user.
    "<|channel|>commentary<|message|>": State.ANSWER,
}
_MARKERS = {
    **_CHANNELS,
    # The prompt ends with this header's beginning, so that only later messages have it.
    **{"<|start|>assistant" + header: state for header, state in _CHANNELS.items()},
    # Ends a message, not the turn.
    "<|end|>": State.CLOSED,
}

_STATES = (State.START, State.OPENED, State.REASONING, State.CLOSED, State.ANSWER)

GPT_OSS = ModelAdapter(
    name="gpt-oss",
    end_of_turn=("<|return|>", "<|call|>"),
    template=(
        "{{ '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\\n' }}"
        "{{ 'Knowledge cutoff: 2024-06\\nCurrent date: ' + strftime_now('%Y-%m-%d') + '\\n\\n' }}"
        "{{ 'Reasoning: ' + (reasoning_effort or 'medium') + '\\n\\n' }}"
        "{{ '# Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>' }}"
        "{% for message in messages %}"
        "{% if message['role'] == 'user' %}{{ '<|start|>user<|message|>' + message['content'] + '<|end|>' }}"
        "{% elif message['role'] == 'assistant' %}"
        "{{ '<|start|>assistant<|channel|>final<|message|>' + message['content'] + '<|end|>' }}"
        "{% elif message['role'] in ['system', 'developer'] %}"
        "{{ '<|start|>developer<|message|># Instructions\\n\\n' + message['content'] + '\\n\\n<|end|>' }}"
        "{% else %}{{ raise_exception('Role not supported') }}"
        "{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
    ),
    markup=Markup(
        opening=_OPENING,
        evidence=(),
        transitions=dict.fromkeys(_STATES, _MARKERS),
        also_shown=("<|constrain|>",),
    ),
    tool_format=ToolFormat.HARMONY,
)

"""The parameters of completions and of Generate."""

from tests.e2e.rows import EXTENSIONS_THAT_ARE_REFUSED, TOKENS, No, Row, Rows, refused, same, says
from tests.e2e.shared_parameters import SHARED

TEXTS: Rows = SHARED | {
    "prompt": (
        Row({"prompt": ["The sky is"]}, None, same),
        Row({"prompt": [5, 6]}, {"tokenIds": {"ids": [5, 6]}}, lambda seen, _: seen.prompt_tokens == 2),
        Row({"prompt": [5.0, 6]}, None, lambda seen, _: seen.prompt_tokens == 2),
        Row({"prompt": [[5, 6]]}, None, lambda seen, _: seen.prompt_tokens == 2),
        Row({"prompt": ["The sky is"] * 3}, None, lambda seen, base: seen.texts == base.texts * 3),
        Row({"prompt": [[5], [6]]}, None, lambda seen, _: len(seen.said) == seen.prompt_tokens == 2),
        Row({"prompt": ""}, {"text": ""}, No("prompt", "text")),
        Row({"prompt": []}, {"tokenIds": {}}, No("prompt", "token_ids")),
        Row({"prompt": [5, 384]}, {"tokenIds": {"ids": [5, 384]}}, No("prompt", "token_ids.ids[1]")),
        Row({"prompt": [-1]}, {"tokenIds": {"ids": [-1]}}, No("prompt", "token_ids.ids[0]")),
        Row({"prompt": ["a", 5]}, None, No("prompt")),
        Row({"prompt": ["a"] * 129}, None, No("prompt")),
        Row({"prompt": 5}, None, No("prompt")),
    ),
    "echo": (
        Row(
            {"echo": True}, {"output": {"echo": True}}, lambda seen, base: seen.texts == [f"The sky is{base.one.text}"]
        ),
        Row(
            {"echo": True, "max_tokens": 0},
            {"output": {"echo": True}, "stopping": {"maxTokens": 0}},
            says("The sky is", "length"),
        ),
    ),
    "logprobs": (
        Row(
            {"logprobs": 2},
            {"output": {"logprobs": True, "topLogprobs": 2}},
            lambda seen, base: same(seen, base) and all(len(token.top) in {1, 2, 3} for token in seen.one.tokens),
        ),
        Row(
            {"logprobs": 0},
            {"output": {"logprobs": True}},
            lambda seen, base: same(seen, base) and len(seen.one.tokens) == TOKENS,
        ),
        Row(
            {"logprobs": 1, "echo": True, "max_tokens": 0},
            {"output": {"promptLogprobs": 1, "echo": True}, "stopping": {"maxTokens": 0}},
            lambda seen, _: (
                seen.one.text == "The sky is"
                and len(seen.one.tokens) == seen.prompt_tokens
                and seen.one.tokens[0].logprob is None
            ),
        ),
        Row({"logprobs": 21}, None, No("logprobs")),
        Row({"logprobs": -1}, None, No("logprobs")),
        Row({"logprobs": True}, None, No("logprobs")),
    ),
    "best_of": (
        Row({"best_of": 1}, None, same),
        Row({"best_of": 2, "n": 2}, None, lambda seen, base: seen.texts == base.texts * 2),
        Row({"best_of": 3}, None, No("best_of")),
    ),
    "suffix": (Row({"suffix": ""}, None, same), Row({"suffix": "end"}, None, No("suffix"))),
    **refused(EXTENSIONS_THAT_ARE_REFUSED | {"add_special_tokens": False}),
}

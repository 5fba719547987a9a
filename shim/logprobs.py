"""The wire's log-probabilities, in the two forms that OpenAI's answers have."""

from collections.abc import Iterable

from mlx_grpc.v1 import generation_pb2 as wire
from shim import shapes
from shim.places import Placed

_LEAST = -9999.0
"""How OpenAI tells a probability of zero, since JSON has no infinity."""


def chat_logprobs(tokens: Iterable[Placed]) -> shapes.ChatLogprobs:
    """The form that chat completions have."""
    return {"content": [_chat_token(placed.token) for placed in tokens], "refusal": None}


def text_logprobs(tokens: Iterable[Placed]) -> shapes.TextLogprobs:
    """The form that text completions have; of a prompt's first token, which nothing predicts, there is null."""
    made: shapes.TextLogprobs = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for placed in tokens:
        token = placed.token
        predicted = token.HasField("logprob")
        made["tokens"].append(_text(token.token))
        made["token_logprobs"].append(_number(token.logprob) if predicted else None)
        made["top_logprobs"].append(_by_text(token) if predicted else None)
        made["text_offset"].append(placed.offset)
    return made


def _by_text(token: wire.TokenLogprob) -> dict[str, float]:
    """The likeliest tokens, and the one that was drawn, which need not be one of them."""
    found: dict[str, float] = {}
    for top in token.top:  # of those that look the same the likeliest counts
        found.setdefault(_text(top.token), _number(top.logprob))
    found.setdefault(_text(token.token), _number(token.logprob))
    return found


def _chat_token(token: wire.TokenLogprob) -> shapes.ChatLogprob:
    return {
        "token": _text(token.token),
        "logprob": _number(token.logprob),
        "bytes": list(token.token),
        "top_logprobs": [
            {"token": _text(top.token), "logprob": _number(top.logprob), "bytes": list(top.token)} for top in token.top
        ],
    }


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")


def _number(logprob: float) -> float:
    return max(logprob, _LEAST)

"""A request in the engine's words."""

import secrets

from service.engine import frames
from service.pool.facts import ModelFacts
from service.pool.prompt import Prompt
from service.types import Ask, Origin, Sampling

_SEED_BITS = 63
_NONE = -1
"""How many alternatives come with the log-probabilities that nobody asked for."""


def submission(facts: ModelFacts, prompt: Prompt, ask: Ask, origin: Origin) -> frames.Submit:
    """What starts a request; the engine's side of the service gives it its number.

    Raises ContextTooLong and InsufficientMemory.
    """
    stopping, output = ask.stopping, ask.output
    # A family's tokens may lie beyond the vocabulary of a model that was cut down.
    own_stops = [] if stopping.ignore_eos else [i for i in facts.format.stop_ids if i < facts.loaded.vocab_size]
    return frames.Submit(
        seq=0,
        prompt=prompt.ids,
        sampling=resolve(ask.sampling, facts.loaded.defaults),
        max_tokens=facts.room(len(prompt.ids), stopping.max_tokens),
        min_tokens=stopping.min_tokens,
        stop_ids=[*{*own_stops, *stopping.stop_token_ids}],
        choices=ask.n,
        logprobs=output.top_logprobs if output.logprobs else _NONE,
        prompt_logprobs=_NONE if output.prompt_logprobs is None else output.prompt_logprobs,
        priority=ask.priority,
        caller=origin.caller,
        deadline=origin.deadline,
        salt=ask.cache.salt,
        bypass=ask.cache.bypass,
        boundaries=list(prompt.boundaries),
        report=output.progress,
        grammar=prompt.answer.grammar.text if prompt.answer.grammar else "",
        thinking=prompt.answer.thinking,
        lora=ask.lora,
    )


def resolve(sampling: Sampling, defaults: frames.Defaults) -> frames.Sampling:
    """Fill what the request leaves open with the model's defaults, and those with neutral values."""

    def first(*values: float | None) -> float:
        return next(value for value in values if value is not None)

    return frames.Sampling(
        seed=secrets.randbits(_SEED_BITS) if sampling.seed is None else sampling.seed,
        temperature=first(sampling.temperature, defaults.temperature, 1.0),
        top_p=first(sampling.top_p, defaults.top_p, 1.0),
        top_k=int(first(sampling.top_k, defaults.top_k, 0)),
        min_p=first(sampling.min_p, defaults.min_p, 0.0),
        repetition_penalty=first(sampling.repetition_penalty, defaults.repetition_penalty, 1.0),
        frequency_penalty=first(sampling.frequency_penalty, 0.0),
        presence_penalty=first(sampling.presence_penalty, 0.0),
        logit_bias=dict(sampling.logit_bias),
    )

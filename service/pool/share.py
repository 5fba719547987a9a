"""How much memory for keys and values a model gets, where nobody has said it."""

from collections.abc import Collection

LEAST = 64 << 20
"""Bytes, as in the engine: a model with less could hardly answer anything."""
_OF_WEIGHTS = 0.25


def kv_share(total: int, fixed: int, others: Collection[int]) -> int:
    """Bytes for one model, which takes `fixed` for weights and process, of a budget that it shares with `others`.

    One that is alone gets all that it leaves, and several get equal parts of what all of them leave. Where not all fit,
    they take turns, and each gets a part of its weights' size; never less than LEAST.
    """
    part = (total - fixed - sum(others)) // (1 + len(others))
    if part < LEAST and others:
        part = min(int(fixed * _OF_WEIGHTS), total - fixed)
    return max(part, LEAST)

"""A token for each row of a step, with no more work on the host than each of them asks for."""

from dataclasses import dataclass

import numpy as np

from service.engine.forward import Pending
from service.engine.frames import Logprob
from service.engine.head import Glance
from service.engine.logprobs import token_logprobs
from service.engine.mask import Mask
from service.engine.nucleus import Logits
from service.engine.sampling import NOTHING_TO_DRAW, draw
from service.engine.sequence import Sequence

Token = int | Exception | None
"""What was drawn, why nothing could be, or None where a grammar lets nothing come."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a step gave a row."""

    sequence: Sequence
    token: Token
    logits: Logits | None = None
    """The row's own, of shape (vocabulary,), where its log-probabilities are asked for; until the next step's."""

    @property
    def logprob(self) -> Logprob | None:
        """That of the token and its alternatives, if they are asked for. It takes a while to compute."""
        if self.logits is None or not isinstance(self.token, int):
            return None
        logits = np.ascontiguousarray(self.logits)
        return token_logprobs(logits[None], [self.token], [self.sequence.submit.logprobs])[0]


def drawn(rows: list[Sequence], pending: Pending) -> list[Drawn]:
    """Wait for a step, and draw. What is wrong with one row is no other one's business.

    Rows that draw need all of their logits in one piece; the others do not pay for that.
    """
    whole = [place for place, row in enumerate(rows) if not row.takes_likeliest]
    if len(whole) == len(rows):
        table = logits = pending.logits()
        tokens: dict[int, Token] = {}
    else:
        glance = pending.glance(whole)
        table, logits = glance.table, glance.whole
        tokens = {place: _likeliest(row, place, glance) for place, row in enumerate(rows) if row.takes_likeliest}
    tokens |= zip(whole, _chosen([rows[place] for place in whole], logits), strict=True)
    return [
        Drawn(row, tokens[place], table[place] if row.submit.logprobs >= 0 else None) for place, row in enumerate(rows)
    ]


def _likeliest(row: Sequence, place: int, glance: Glance) -> Token:
    """The likeliest token that may come in a row."""
    try:
        if row.forced is not None:
            return row.forced
        token, highest = int(glance.tokens[place]), float(glance.highest[place])
        if (mask := row.mask()) is not None:
            if mask.is_empty:
                return None
            if np.isfinite(highest) and not mask.allows(token):
                token, highest = _masked(mask, glance.table[place])
    except Exception as error:  # noqa: BLE001 - a row's own grammar must not take the others down
        return error
    return token if np.isfinite(highest) else ValueError(NOTHING_TO_DRAW)


def _masked(mask: Mask, logits: Logits) -> tuple[int, float]:
    """The likeliest token that a mask allows, and its logit."""
    if mask.ids is not None:
        few = logits[mask.ids]
        place = int(few.argmax())
        return int(mask.ids[place]), float(few[place])
    row = logits.copy()
    mask.apply(row)
    token = int(row.argmax())
    return token, float(row[token])


def _chosen(rows: list[Sequence], logits: Logits) -> list[Token]:
    """Draw for rows whose logits are known, of shape (rows, vocabulary)."""
    masks = [_mask(row) for row in rows]
    tokens: list[Token] = [row.forced for row in rows]
    places: list[int] = []
    usable: list[Mask | None] = []
    for place, mask in enumerate(masks):
        if isinstance(mask, Exception):
            tokens[place] = mask
        elif tokens[place] is None and not (mask is not None and mask.is_empty):
            places.append(place)
            usable.append(mask)
    if not places:
        return tokens
    some = [rows[place] for place in places]
    bans = [[] if mask is not None else row.banned for row, mask in zip(some, usable, strict=True)]
    chosen = draw([row.sampler for row in some], bans, logits if len(some) == len(rows) else logits[places], usable)
    for place, token in zip(places, chosen, strict=True):
        tokens[place] = token
    return tokens


def _mask(row: Sequence) -> Mask | Exception | None:
    if row.forced is not None:
        return None
    try:
        return row.mask()
    except Exception as error:  # noqa: BLE001 - as in _likeliest
        return error

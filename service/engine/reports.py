"""What came of a sequence's step, as the service hears of it."""

import logging

from service.engine.batch import Drawn
from service.engine.frames import Logprob, Progress, Row
from service.engine.sequence import Sequence

logger = logging.getLogger(__name__)


def taken(drawn: Drawn) -> Row:
    """Give a sequence the token that was drawn for it, or end it with the error for which there is none."""
    sequence, token = drawn.sequence, drawn.token
    if isinstance(token, Exception):
        return failed(sequence, token)
    finish = sequence.append(token)
    logprobs = [] if drawn.logprob is None else [drawn.logprob]
    return Row(sequence.submit.seq, [token], finish, sequence.choice, logprobs)


def progress(sequence: Sequence, scores: list[Logprob | None]) -> Progress:
    """How far a sequence's prompt is processed."""
    return Progress(sequence.submit.seq, sequence.processed, sequence.admitted, sequence.cached, scores)


def failed(sequence: Sequence, error: Exception) -> Row:
    """A sequence's end by an error, which the log has in full."""
    logger.error("sequence %d failed", sequence.submit.seq, exc_info=error)
    message = f"{type(error).__name__}: {error}"
    return Row(sequence.submit.seq, [], "error", sequence.choice, error=message)

"""What came of a sequence's step, as the service hears of it."""

import logging

from service.engine.constraint import GrammarFailed
from service.engine.drawing import Drawn
from service.engine.frames import Logprob, Progress, Row
from service.engine.sequence import Sequence

logger = logging.getLogger(__name__)


def taken(drawn: Drawn) -> Row:
    """Give a sequence the token that was drawn for it, or end it with the error for which there is none.

    Its log-probability, if there is one, is still to be added.
    """
    sequence, token = drawn.sequence, drawn.token
    if isinstance(token, Exception):
        return failed(sequence, token)
    if token is None:
        return Row(sequence.submit.seq, [], "complete", sequence.choice)
    try:
        finish = sequence.append(token)
    except GrammarFailed as error:
        return failed(sequence, error)
    return Row(sequence.submit.seq, [token], finish, sequence.choice)


def progress(sequence: Sequence, scores: list[Logprob | None]) -> Progress:
    """How far a sequence's prompt is processed."""
    return Progress(sequence.submit.seq, sequence.processed, sequence.admitted, sequence.cached, scores)


def failed(sequence: Sequence, error: Exception, choice: int | None = None) -> Row:
    """A sequence's end by an error, which the log has in full; `choice` where it is not the sequence's own."""
    number = sequence.choice if choice is None else choice
    if isinstance(error, GrammarFailed):
        logger.info("sequence %d failed by its grammar: %s", sequence.submit.seq, error)
        return Row(sequence.submit.seq, [], "invalid", number, error=str(error))
    logger.error("sequence %d failed", sequence.submit.seq, exc_info=error)
    message = f"{type(error).__name__}: {error}"
    return Row(sequence.submit.seq, [], "error", number, error=message)

"""Tests of giving every token to a piece."""

from service.engine.frames import Logprob
from service.text.assembler import Assembler
from service.text.pieces import CallText, Ended, ReasoningText, Text
from service.types import FinishReason

ENDED = Ended(FinishReason.STOP)


def test_tokens_wait_for_the_text_that_they_are_part_of() -> None:
    """A piece has those up to its last text; at the end all that are left."""
    assembler = Assembler()
    assembler.ids += [1, 2]
    assembler.say("a")
    assembler.ids.append(3)
    assert assembler.take() == [Text("a", (1, 2))]
    assert assembler.take() == []
    assembler.add(ENDED)
    assert assembler.take() == [Text("", (3,)), ENDED]


def test_a_piece_of_another_kind_begins_with_the_tokens_that_wait() -> None:
    """Such as those of the marker that tells the kind."""
    assembler = Assembler()
    assembler.ids.append(1)
    assembler.say("a")
    assembler.ids.append(2)
    assembler.turn(ReasoningText)
    assembler.say("b")
    assert assembler.take() == [Text("a", (1,)), ReasoningText("b", (2,))]
    assert assembler.reasoning_tokens == 1


def test_each_call_has_its_place_and_is_named_once() -> None:
    """A call whose name shares its token with text before it has a piece without tokens."""
    assembler = Assembler()
    assembler.ids.append(1)
    assembler.logprobs.append(Logprob(-1.0))
    assembler.say("a")
    assembler.begin_call("x", "f")
    assembler.begin_call("y", "g")
    assembler.say("{")
    assert assembler.take() == [
        Text("a", (1,), (Logprob(-1.0),)),
        CallText(0, "x", "f"),
        CallText(1, "y", "g", "{"),
    ]
    assembler.ids.append(2)
    assembler.settle()
    assert assembler.take() == [CallText(1, token_ids=(2,))]

"""What a family's markers are for."""

import pytest

from service.adapters.base import THINK
from service.adapters.gemma import GEMMA4
from service.adapters.gpt_oss import GPT_OSS
from service.adapters.granite import GRANITE
from service.adapters.mistral import MISTRAL
from service.text.markup import Kind, Markup, Splitter
from service.text.outline import Outline

FINAL = "<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("markup", "closing", "turn", "header", "wrapper", "ending"),
    [
        (THINK, "</think>", "", "", "", "\n</think>\n\n"),
        (MISTRAL.markup, "[/THINK]", "", "", "", "[/THINK]"),
        (GEMMA4.markup, "<channel|>", "", "", "", "<channel|>"),
        (GRANITE.markup, "</think>", "", "", "<response>", "\n</think>\n\n"),
        (GPT_OSS.markup, "<|end|>", "<|start|>assistant", FINAL, "", "<|end|><|start|>assistant"),
    ],
)
def test_markers_are_told_apart(
    markup: Markup, closing: str, turn: str, header: str, wrapper: str, ending: str
) -> None:
    """By where they lead."""
    outline = Outline.of(markup)
    assert (outline.opening, outline.closing) == (markup.opening, closing)
    assert (outline.turn, outline.header, outline.wrapper, outline.ending) == (turn, header, wrapper, ending)


@pytest.mark.parametrize("markup", [GPT_OSS.markup, GRANITE.markup, GEMMA4.markup, THINK])
def test_an_answer_that_has_begun_is_all_answer(markup: Markup) -> None:
    """Markers in it are its text, since the grammar that it is held to knows of none there."""
    outline = Outline.of(markup)
    inside = f'"{outline.opening} {outline.closing} {outline.header} </response>"'
    output = outline.header + inside if outline.header else outline.wrapper + inside
    splitter = Splitter(outline.for_answers(may_reason=True))
    segments = [segment for segment in [*splitter.feed(output), *splitter.flush()] if segment.text]
    assert {segment.kind for segment in segments} == {Kind.ANSWER}
    assert "".join(segment.text for segment in segments) == inside


def test_without_reasoning_its_marker_is_text() -> None:
    """A grammar that lets none through may let its marker through."""
    splitter = Splitter(Outline.of(THINK).for_answers(may_reason=False))
    assert "".join(segment.text for segment in [*splitter.feed("<think>"), *splitter.flush()]) == "<think>"

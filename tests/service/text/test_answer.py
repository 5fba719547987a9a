"""Bounds on reasoning, in the engine's words."""

import pytest

from service.adapters.base import THINK
from service.adapters.gemma import GEMMA4
from service.adapters.gpt_oss import GPT_OSS
from service.text.answer import thinking
from service.text.markup import Markup, think
from tests.service.text.tokenizers import HARMONY, byte_level


@pytest.mark.parametrize(
    ("markup", "in_words", "opening", "closing", "ending"),
    [
        (THINK, True, "<think>", "</think>", "\n</think>\n\n"),
        (THINK, False, "<think>", "</think>", "\n</think>\n\n"),
        (GEMMA4.markup, True, "<|channel>thought", "<channel|>", "<channel|>"),
        (
            GPT_OSS.markup, True, "<|channel|>analysis<|message|>", "<|end|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
        ),
        (GPT_OSS.markup, False, "<|channel|>analysis<|message|>", "<|end|>", "<|end|><|start|>assistant"),
    ],
)  # fmt: skip
def test_a_bound_has_the_familys_markers(
    markup: Markup, in_words: bool, opening: str, closing: str, ending: str
) -> None:
    """As tokens; what ends the reasoning leads to the answer."""
    tokenizer = byte_level(*HARMONY, "<|channel>", "<channel|>")
    bound = thinking(tokenizer, markup, 7, is_open=True, in_words=in_words)
    assert bound is not None
    assert (bound.budget, bound.is_open) == (7, True)
    for ids, text in ((bound.opening, opening), (bound.closing, closing), (bound.ending, ending)):
        assert ids == tokenizer.encode(text, add_special=False)
    assert len(bound.closing) == 1


@pytest.mark.parametrize("markup", [think("<a>", "</think>"), think("<think>", "</a>"), think("<think>", "</think>>")])
def test_markers_that_are_no_tokens_bound_nothing(markup: Markup) -> None:
    """Other tokens may spell them."""
    assert thinking(byte_level(), markup, 7, is_open=False, in_words=True) is None

"""Tests of the parser for reasoning markers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.adapters.base import THINK
from service.adapters.gemma import GEMMA4
from service.adapters.gpt_oss import GPT_OSS
from service.adapters.granite import GRANITE
from service.adapters.kimi import KIMI_K3
from service.text.markup import Kind, Markup, Splitter

many = settings(deadline=None, max_examples=200)


def split(markup: Markup | None, chunks: list[str], *, reasoning_open: bool = False) -> list[tuple[Kind, str]]:
    """What a stream of chunks gives, neighbours of one kind joined."""
    assert markup
    splitter = Splitter(markup, reasoning_open=reasoning_open)
    segments = [segment for chunk in chunks for segment in splitter.feed(chunk)] + splitter.flush()
    joined: list[tuple[Kind, str]] = []
    for segment in segments:
        if joined and joined[-1][0] is segment.kind:
            joined[-1] = (segment.kind, joined[-1][1] + segment.text)
        else:
            joined.append((segment.kind, segment.text))
    return joined


def text_of(segments: list[tuple[Kind, str]], kind: Kind) -> str:
    return "".join(text for is_kind, text in segments if is_kind is kind)


def sorted_out(markup: Markup | None, text: str, *, reasoning_open: bool = False) -> tuple[str, str]:
    """Return reasoning and answer of `text`, which every character by itself gives as well."""
    whole = split(markup, [text], reasoning_open=reasoning_open)
    assert split(markup, list(text), reasoning_open=reasoning_open) == whole
    return text_of(whole, Kind.REASONING), text_of(whole, Kind.ANSWER)


MARKUPS = {"think": THINK, "granite": GRANITE.markup, "harmony": GPT_OSS.markup, "gemma4": GEMMA4.markup}


@pytest.mark.parametrize("name", MARKUPS)
@given(data=st.data())
@many
def test_any_split_gives_what_the_whole_gives(name: str, data: st.DataObject) -> None:
    """Markers, parts of markers, newlines and text in any order give the same wherever they are cut."""
    markup = MARKUPS[name]
    assert markup
    whole = sorted({marker for markers in markup.transitions.values() for marker in markers})
    parts = st.sampled_from([*whole, *(marker[:-1] for marker in whole), "\n", " ", "x", "<", "<|", "|>"])
    text = "".join(data.draw(st.lists(parts, max_size=12)))
    reasoning_open = data.draw(st.booleans())
    marks = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    chunks = [text[start:end] for start, end in zip([0, *marks], [*marks, len(text)], strict=True)]
    expected = split(markup, [text], reasoning_open=reasoning_open)
    assert split(markup, chunks, reasoning_open=reasoning_open) == expected


@pytest.mark.parametrize("name", MARKUPS)
@given(text=st.text("<|>[/]thinkxa \n", max_size=30))
@many
def test_text_without_markers_is_not_touched(name: str, text: str) -> None:
    """Text that holds no marker comes out as it is, whitespace at its ends included."""
    markup = MARKUPS[name]
    assert markup
    if any(marker in text for markers in markup.transitions.values() for marker in markers):
        return
    assert sorted_out(markup, text) == ("", text)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>\nhm\n</think>\n\n  yes", "hm", "  yes"),
        ("<think>hm</think>yes\n", "hm", "yes\n"),
        (" <think> a\n\nb </think>c", " a\n\nb ", " c"),
        ("<think></think>yes", "", "yes"),
        ("<think>\n\n</think>\n\nyes", "", "yes"),
        ("yes <think>no</think>", "", "yes <think>no</think>"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("yes</think>", "", "yes</think>"),
        ("<think>cut\n", "cut\n", ""),
        ("<think>cut\n</thi", "cut", ""),
        ("<think>cut</thx", "cut</thx", ""),
        ("<think>1 <", "1 <", ""),
        ("<think>a\n<thi", "a\n<thi", ""),
        ("<thi", "", "<thi"),
        ("<think>a<think>b</think>c", "a<think>b", "c"),
        ("\n\n yes", "", "\n\n yes"),
    ],
)
def test_think_markers(text: str, reasoning: str, answer: str) -> None:
    """Reasoning is what the markers hold at the start; newlines beside a marker go with it, other text stays."""
    assert sorted_out(THINK, text) == (reasoning, answer)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("\nhm\n</think>\n\nyes", "hm", "yes"),
        ("<think>\nhm</think>yes", "hm", "yes"),
        ("hm", "hm", ""),
        ("</think>yes", "", "yes"),
    ],
)
def test_reasoning_that_the_prompt_opened(text: str, reasoning: str, answer: str) -> None:
    """After a prompt that ends with the marker the stream begins in reasoning, and a repeated marker is none of it."""
    assert sorted_out(THINK, text, reasoning_open=True) == (reasoning, answer)


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes", "hm", "yes"),
        ("<|channel|>final<|message|>yes", "", "yes"),
        ("<|channel|>commentary<|message|>I call<|end|><|start|>assistant<|channel|>analysis<|message|>hm",
         "hm", "I call"),
        ("plain", "", "plain"),
        ("<|channel|>odd<|message|>x", "", "<|channel|>odd<|message|>x"),
        ("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}",
         "", "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}"),
        ("<|start|>assistant<|start|>assistant<|channel|>final<|message|>a", "", "<|start|>assistanta"),
        ("<|channel|>analysis<|message|>a\n<|end|>\n<|start|>assistant<|channel|>final<|message|>\nb\n", "a", "b\n"),
    ],
)  # fmt: skip
def test_harmony_headers(text: str, reasoning: str, answer: str) -> None:
    """Channels sort the text wherever they come; a header that is not known comes out as text."""
    assert sorted_out(GPT_OSS.markup, text) == (reasoning, answer)


def test_harmony_may_reason_again() -> None:
    """A second analysis after a preamble is reasoning again, in its place."""
    header = "<|start|>assistant<|channel|>"
    text = f"<|channel|>analysis<|message|>a<|end|>{header}commentary<|message|>b<|end|>{header}analysis<|message|>c"
    kinds = [kind for kind, text in split(GPT_OSS.markup, [text]) if text]
    assert kinds == [Kind.REASONING, Kind.ANSWER, Kind.REASONING]


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>hm</think>\n<response>yes\n</response>", "hm", "yes"),
        ("<think>hm</think>yes</response>", "hm", "yes</response>"),
        ("<response>yes", "", "yes"),
        ("<response>yes\n</resp", "", "yes"),
        ("<think>hm</think>\n<resp", "hm", "<resp"),
        ("say <response>", "", "say <response>"),
        ("<response>a\n\nb\n", "", "a\n\nb\n"),
    ],
)
def test_granite_markers(text: str, reasoning: str, answer: str) -> None:
    """Granite's markers around its answer are taken out too, where they are markers."""
    assert sorted_out(GRANITE.markup, text) == (reasoning, answer)


def test_gemma_channel() -> None:
    """Gemma 4 thinks in a channel, also after it has said something."""
    text = "<|channel>thought\nhm\n<channel|>yes<|channel>thought\nwell<channel|>no"
    assert sorted_out(GEMMA4.markup, text) == ("hmwell", "yesno")


def test_kimi_k3_markers() -> None:
    """The end of the message is a marker too, also where it is cut."""
    opening, think = "<|open|>response<|sep|>", "<|open|>think<|sep|>hm<|close|>think<|sep|>"
    assert sorted_out(KIMI_K3.markup, f"{think}{opening}yes<|close|>response<|sep|><|close|>mess") == ("hm", "yes")
    assert sorted_out(KIMI_K3.markup, f"{think}{opening}yes<|close|>resp") == ("hm", "yes")


def test_text_comes_out_at_once() -> None:
    """Only what may be a marker or the newlines before one is held back."""
    splitter = Splitter(THINK)
    assert [segment.text for segment in splitter.feed("<think>")] == [""]
    assert "".join(segment.text for segment in splitter.feed("hm")) == "hm"
    assert splitter.feed("\n") == []
    assert [segment.text for segment in splitter.feed("x<")] == ["\nx"]
    assert [segment.text for segment in splitter.feed("y")] == ["<", "y"]
    assert [segment.kind for segment in splitter.feed("</think>")] == [Kind.ANSWER]
    assert "".join(segment.text for segment in splitter.feed("a <\n")) == "a <\n"
    assert [segment.text for segment in splitter.feed("<think>\n")] == ["<think>\n"]

"""Tests of the way from tokens to pieces."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.adapters.base import THINK
from service.adapters.gpt_oss import GPT_OSS
from service.engine.frames import Logprob
from service.text.markup import Markup
from service.text.parser import Ended, Parser, Piece, ReasoningEnded, ReasoningText, Text
from service.text.pieces import CallText, merged
from service.text.tokenizer import Tokenizer
from service.text.tools.harmony import HARMONY as HARMONY_CALLS
from service.text.tools.hermes import HERMES
from service.text.tools.syntax import ToolSyntax
from service.types import FinishReason, Stopping, Tool
from tests.service.text.tokenizers import HARMONY, byte_fallback, byte_level, byte_tokens, cuts

many = settings(deadline=None, max_examples=150)
TOLD = Text | ReasoningText | CallText
STOP, LENGTH, TOOL_CALLS = FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS
TOOLS = (Tool("get_weather", "", '{"properties": {"city": {"type": "string"}}}'), Tool("now", "", ""))
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "STOP"}}\n</tool_call>'
NOW = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'


class Clock:
    """Moves on by a second each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def parse(
    tokens: Sequence[int],
    stopping: Stopping | None = None,
    markup: Markup | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    reasoning_open: bool = False,
    syntax: ToolSyntax | None = None,
    parallel: bool = True,
    end: tuple[FinishReason, int | None] = (LENGTH, None),
) -> tuple[Parser, list[Piece]]:
    """Feed `tokens` one by one, end, and join."""
    parser = Parser(
        tokenizer or byte_level(),
        stopping or Stopping(),
        markup,
        reasoning_open=reasoning_open,
        calls=syntax.reader(TOOLS) if syntax else None,
        parallel=parallel,
        clock=Clock(),
    )
    pieces = [piece for token in tokens for piece in parser.feed([token])]
    return parser, merged(pieces + parser.end(*end))


def ids(text: str, tokenizer: Tokenizer | None = None) -> list[int]:
    return (tokenizer or byte_level()).encode(text, add_special=False)


def said(pieces: list[Piece], kind: type[Text] | type[ReasoningText] = Text) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, kind))


def told(pieces: list[Piece]) -> list[int]:
    return [
        token for piece in pieces if isinstance(piece, Text | ReasoningText | CallText) for token in piece.token_ids
    ]


def made(pieces: list[Piece]) -> list[tuple[str, str]]:
    """Return names and arguments of the calls; check their places and ids."""
    calls: dict[int, tuple[str, str]] = {}
    for piece in pieces:
        if isinstance(piece, CallText):
            assert bool(piece.name) is bool(piece.id) is (piece.index not in calls)
            name, arguments = calls.get(piece.index, (piece.name, ""))
            calls[piece.index] = name, arguments + piece.arguments
    assert list(calls) == list(range(len(calls)))
    return list(calls.values())


def token(text: str) -> int:
    number = byte_level().token_id(text)
    assert number is not None
    return number


texts = st.lists(st.sampled_from([*"STOPabthe \n日é👍", "STOP"]), max_size=12).map("".join)
chunks = st.lists(
    st.sampled_from(["<think>", "</think>", "STOP", "ST", "the ", "\n", "日é", "👍", "a"]), max_size=8
).map("".join)
parts = st.sampled_from([CALL, NOW, "the ", "\n", "<tool_call>", "</tool_call>", "ST", '{"name": ', "<think>a</think>"])
stoppings = st.builds(
    lambda stop, least, include: Stopping(stop=tuple(stop), min_tokens=least, include_stop=include),
    st.lists(st.sampled_from(["STOP", "TO", "日", "</think>", "\n", "a"]), max_size=3),
    st.integers(0, 6),
    st.booleans(),
)


@pytest.mark.parametrize("tokenizer", [byte_level(), byte_fallback()], ids=["byte_level", "byte_fallback"])
@given(data=st.data(), stopping=stoppings, reasoning_open=st.booleans(), marked=st.booleans())
@many
def test_how_tokens_arrive_does_not_matter(
    tokenizer: Tokenizer, data: st.DataObject, stopping: Stopping, reasoning_open: bool, marked: bool
) -> None:
    """Tokens in one feed give the same pieces as tokens one by one, each token in one of them, in order."""
    tokens = data.draw(cuts(tokenizer, chunks))
    markup = THINK if marked else None
    end = data.draw(st.sampled_from([(LENGTH, None), (STOP, tokenizer.token_id("</s>"))]))
    one, pieces = parse(
        tokens, stopping, markup, tokenizer=tokenizer, reasoning_open=marked and reasoning_open, end=end
    )
    whole = Parser(tokenizer, stopping, markup, reasoning_open=marked and reasoning_open)
    at_once = merged(whole.feed(tokens) + whole.end(*end))
    timeless = [ReasoningEnded(0) if isinstance(piece, ReasoningEnded) else piece for piece in pieces]
    assert [ReasoningEnded(0) if isinstance(piece, ReasoningEnded) else piece for piece in at_once] == timeless
    assert isinstance(pieces[-1], Ended)
    assert sum(isinstance(piece, Ended) for piece in pieces) == 1
    fed = [*tokens, *([end[1]] if end[1] is not None else [])]
    assert told(pieces) == fed[: one.completion_tokens]
    if pieces[-1].stop_string is None:
        assert one.completion_tokens == len(fed)
    assert one.reasoning_tokens == sum(len(p.token_ids) for p in pieces if isinstance(p, ReasoningText))
    assert not any(type(a) is type(b) is Text for a, b in pairwise(pieces))


@pytest.mark.parametrize("tokenizer", [byte_level(), byte_fallback()], ids=["byte_level", "byte_fallback"])
@given(data=st.data())
@many
def test_the_text_up_to_the_stop_string_does_not_depend_on_the_tokens(
    tokenizer: Tokenizer, data: st.DataObject
) -> None:
    """Any cut of a text into tokens gives the text before the first stop string."""
    tokens = data.draw(cuts(tokenizer, texts))
    whole = tokenizer.decode(tokens, skip_special=True)
    parser, pieces = parse(tokens, Stopping(stop=("STOP",)), tokenizer=tokenizer)
    before, found, _ = whole.partition("STOP")
    assert said(pieces) == before
    assert pieces[-1] == (Ended(STOP, stop_string="STOP") if found else Ended(LENGTH))
    assert parser.ended


@given(data=st.data(), stopping=stoppings, reasoning_open=st.booleans())
@many
def test_log_probabilities_stay_with_their_tokens(
    data: st.DataObject, stopping: Stopping, reasoning_open: bool
) -> None:
    """However they arrive, and whatever takes text away: each piece has exactly those of its tokens."""
    tokens = data.draw(cuts(byte_level(), chunks))
    end = data.draw(st.sampled_from([(LENGTH, None), (STOP, token("</s>"))]))
    fed = [*tokens, *([end[1]] if end[1] is not None else [])]
    scores = [Logprob(-float(place), [(number, -0.5)]) for place, number in enumerate(fed)]
    parser = Parser(byte_level(), stopping, THINK, reasoning_open=reasoning_open)
    size = data.draw(st.integers(1, 4))
    pieces: list[Piece] = []
    for start in range(0, len(tokens), size):
        pieces += parser.feed(tokens[start : start + size], scores[: len(tokens)][start : start + size])
    pieces = merged(pieces + parser.end(*end, scores[len(tokens) :]))
    found = [
        pair
        for p in pieces
        if isinstance(p, Text | ReasoningText)
        for pair in zip(p.token_ids, p.logprobs, strict=True)
    ]
    assert found == list(zip(fed, scores, strict=True))[: parser.completion_tokens]


def test_nobody_who_does_not_ask_gets_log_probabilities() -> None:
    """The pieces have none then."""
    _, pieces = parse(ids("<think>the sky</think>is"), markup=THINK, end=(STOP, token("</s>")))
    assert all(not piece.logprobs for piece in pieces if isinstance(piece, Text | ReasoningText))


def test_the_log_probability_of_a_stop_token_comes_last() -> None:
    """It was generated, though its text is not shown; what comes after a stop string was not."""
    a, b, c = (Logprob(-number) for number in (1.0, 2.0, 3.0))
    parser = Parser(byte_level(), Stopping())
    assert parser.feed(ids("a"), [a]) == [Text("a", tuple(ids("a")), (a,))]
    assert parser.end(STOP, token("</s>"), [b]) == [
        Text("", (token("</s>"),), (b,)),
        Ended(STOP, stop_token=token("</s>")),
    ]
    stopped = Parser(byte_level(), Stopping(stop=("b",)))
    assert stopped.feed(byte_tokens(byte_level(), "abc"), [a, b, c])[0] == Text(
        "a", tuple(byte_tokens(byte_level(), "ab")), (a, b)
    )


def test_a_piece_joins_what_one_feed_gives() -> None:
    """Several tokens of one kind come as one piece with all their ids."""
    tokens = ids("the sky is blue")
    parser = Parser(byte_level(), Stopping())
    assert parser.feed(tokens) == [Text("the sky is blue", tuple(tokens))]
    assert parser.end(LENGTH) == [Ended(LENGTH)]
    assert parser.completion_tokens == len(tokens)


def test_a_held_token_comes_with_the_text_that_follows() -> None:
    """The first bytes of a character give no piece; their ids come with the character."""
    tokens = byte_tokens(byte_level(), "日")
    parser = Parser(byte_level(), Stopping())
    assert parser.feed(tokens[:2]) == []
    assert parser.feed(tokens[2:]) == [Text("日", tuple(tokens))]


def test_what_is_held_at_the_end_is_not_lost() -> None:
    """A cut-off character and the beginning of a stop string come out when the engine ends the choice."""
    parser = Parser(byte_level(), Stopping(stop=("STOP",)))
    parser.feed(ids("a S"))
    last = byte_tokens(byte_level(), "T日")[:-1]
    assert parser.feed(last) == []
    assert parser.end(LENGTH) == [Text("ST�", (*ids("a S")[-1:], *last)), Ended(LENGTH)]


def test_tokens_after_a_stop_string_are_ignored() -> None:
    """The choice ends with the token that completes the stop string, and a later end by the engine says nothing."""
    parser = Parser(byte_level(), Stopping(stop=("b",)))
    assert parser.feed(byte_tokens(byte_level(), "abc")) == [
        Text("a", tuple(byte_tokens(byte_level(), "ab"))),
        Ended(STOP, stop_string="b"),
    ]
    assert parser.ended
    assert parser.completion_tokens == 2
    assert parser.feed(ids("more")) == []
    assert parser.end(STOP, token("</s>")) == []
    assert parser.completion_tokens == 2


def test_only_ids_left_give_an_empty_text() -> None:
    """When a stop string takes all text there is, its tokens are still told."""
    assert parse(ids("b"), Stopping(stop=("b",)))[1] == [Text("", tuple(ids("b"))), Ended(STOP, stop_string="b")]


def test_include_stop_keeps_the_stop_string_and_nothing_more() -> None:
    """The text ends with the stop string, though its last token has more text."""
    tokenizer = byte_level()
    tokens = [*byte_tokens(tokenizer, "x S"), *byte_tokens(tokenizer, "TOP")]
    _, pieces = parse([*tokens, token("</think>")], Stopping(stop=("STOP</",), include_stop=True))
    assert said(pieces) == "x STOP</"
    assert pieces[-1] == Ended(STOP, stop_string="STOP</")


def test_a_stop_string_that_the_flush_completes_counts() -> None:
    """A cut-off character comes out as U+FFFD at the end, which may be all that a stop string waited for."""
    start = byte_tokens(byte_level(), "日")[:1]
    parser, pieces = parse([*ids("a"), *start], Stopping(stop=("a�",)), end=(STOP, token("</s>")))
    assert pieces == [Text("", (*ids("a"), *start)), Ended(STOP, stop_string="a�")]
    assert parser.completion_tokens == 2


def test_a_stop_string_may_be_part_of_a_marker_that_did_not_come() -> None:
    """What the marker's beginning held back is answer in the end, and stop strings are found in it."""
    _, pieces = parse(byte_tokens(byte_level(), "<thi"), Stopping(stop=("hi",)), THINK)
    assert said(pieces) == "<t"
    assert pieces[-1] == Ended(STOP, stop_string="hi")


@pytest.mark.parametrize(("name", "shown"), [("</s>", "</s>"), ("a", "a")])
@pytest.mark.parametrize("include", [True, False])
def test_a_stop_token_counts_and_is_shown_with_include_stop_only(name: str, shown: str, include: bool) -> None:
    """The stop token's id is told and counted; its text is, even a special one's, only when asked for."""
    parser, pieces = parse(ids("the"), Stopping(include_stop=include), end=(STOP, token(name)))
    assert said(pieces) == "the" + shown * include
    assert told(pieces) == [*ids("the"), token(name)]
    assert pieces[-1] == Ended(STOP, stop_token=token(name))
    assert parser.completion_tokens == len(ids("the")) + 1


def test_special_tokens_past_which_the_engine_goes_are_not_text() -> None:
    """With ignore_eos the engine feeds end-of-turn tokens: they count, and are not shown."""
    tokens = [*ids("a"), token("</s>"), *ids("b")]
    parser, pieces = parse(tokens, Stopping(ignore_eos=True))
    assert pieces == [Text("ab", tuple(tokens)), Ended(LENGTH)]
    assert parser.completion_tokens == 3


@pytest.mark.parametrize(("least", "text"), [(0, ""), (1, ""), (2, "a"), (3, "aa"), (9, "aaaa")])
def test_a_stop_string_before_min_tokens_is_text(least: int, text: str) -> None:
    """A stop string may end the choice with token number min_tokens at the earliest."""
    parser, pieces = parse([token("a")] * 4, Stopping(stop=("a",), min_tokens=least))
    assert said(pieces) == text
    assert parser.completion_tokens == min(max(least, 1), 4)


def test_reasoning_is_told_apart_with_its_duration() -> None:
    """Reasoning and answer come as pieces of their own, the time between the markers between them."""
    tokens = ids("<think>\nhm\n</think>\n\nyes")
    parser, pieces = parse(tokens, markup=THINK)
    end = tokens.index(token("</think>")) + 1
    assert pieces == [
        ReasoningText("hm", tuple(tokens[:end])),
        ReasoningEnded(1.0),
        Text("yes", tuple(tokens[end:])),
        Ended(LENGTH),
    ]
    assert parser.reasoning_tokens == end


def test_reasoning_that_the_prompt_opened_lasts_from_its_first_token() -> None:
    """The time does not run before the first token."""
    clock = Clock()
    parser = Parser(byte_level(), Stopping(), THINK, reasoning_open=True, clock=clock)
    clock.now = 100
    parser.feed(ids("hm"))
    clock.now = 105
    pieces = parser.feed(ids("</think>yes"))
    assert ReasoningEnded(5.0) in pieces


def test_a_choice_that_ends_in_reasoning_ends_it() -> None:
    """A choice that runs out of tokens while it thinks says that the thinking has ended."""
    parser, pieces = parse(ids("<think>hm"), markup=THINK)
    assert pieces == [ReasoningText("hm", tuple(ids("<think>hm"))), ReasoningEnded(1.0), Ended(LENGTH)]
    assert parser.reasoning_tokens == parser.completion_tokens


def test_a_choice_may_end_before_its_first_token() -> None:
    """A stop token first thing gives its id and the end, in reasoning too."""
    end = (STOP, token("</s>"))
    assert parse([], end=end)[1] == [Text("", (end[1],)), Ended(*end[:1], stop_token=end[1])]
    parser, pieces = parse([], markup=THINK, reasoning_open=True, end=end)
    assert pieces[0] == ReasoningText("", (end[1],))
    assert isinstance(pieces[1], ReasoningEnded)
    assert parser.reasoning_tokens == 1


def test_stop_strings_are_not_looked_for_in_reasoning() -> None:
    """A stop string in reasoning is reasoning; the same in the answer ends the choice."""
    _, pieces = parse(ids("<think>a STOP b</think>c STOP d"), Stopping(stop=("STOP",)), THINK)
    assert said(pieces, ReasoningText) == "a STOP b"
    assert said(pieces) == "c "
    assert pieces[-1] == Ended(STOP, stop_string="STOP")


def test_a_stop_string_does_not_begin_in_reasoning() -> None:
    """The end of the reasoning and the start of the answer make no stop string together."""
    _, pieces = parse(ids("<think>ST</think>OP"), Stopping(stop=("STOP",)), THINK)
    assert (said(pieces, ReasoningText), said(pieces)) == ("ST", "OP")


def test_harmony_tokens_become_reasoning_and_answer() -> None:
    """Headers made of special tokens sort the text, though special tokens are not shown otherwise."""
    tokenizer = byte_level(*HARMONY)
    text = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes</s>"
    tokens = ids(text, tokenizer)
    _, pieces = parse(tokens, markup=GPT_OSS.markup, tokenizer=tokenizer, end=(STOP, tokenizer.token_id("<|return|>")))
    assert [type(piece) for piece in pieces] == [ReasoningText, ReasoningEnded, Text, Ended]
    assert (said(pieces, ReasoningText), said(pieces)) == ("hm", "yes")


def test_text_that_a_stop_string_held_comes_before_new_reasoning() -> None:
    """In harmony reasoning may follow an answer, whose held-back end comes out first."""
    tokenizer = byte_level(*HARMONY)
    text = "<|channel|>final<|message|>a ST<|end|><|start|>assistant<|channel|>analysis<|message|>hm"
    _, pieces = parse(ids(text, tokenizer), Stopping(stop=("STOP",)), GPT_OSS.markup, tokenizer=tokenizer)
    assert [type(piece) for piece in pieces] == [Text, ReasoningText, ReasoningEnded, Ended]
    assert said(pieces) == "a ST"


def test_markers_are_plain_text_without_markup() -> None:
    """A model that is not known to reason has its text left alone."""
    assert said(parse(ids("<think>a</think>b"))[1]) == "<think>a</think>b"


def test_calls_come_as_pieces_of_their_own() -> None:
    """Text, a call with all of its tokens, those of the markers too, and the text after it."""
    before, call, after = ids("the sky\n\n"), ids(CALL), ids("\nis")
    _, pieces = parse([*before, *call, *after], syntax=HERMES)
    assert [type(piece) for piece in pieces] == [Text, CallText, Text, Ended]
    assert said(pieces) == "the skyis"
    assert made(pieces) == [("get_weather", '{"city": "STOP"}')]
    assert told(pieces) == [*before, *call, *after]
    middle = pieces[1]
    assert isinstance(middle, CallText)
    assert middle.token_ids[-len(call) :] == tuple(call)


def test_a_call_comes_as_it_forms() -> None:
    """The first piece has the name and the id, later ones more of the arguments."""
    parser = Parser(byte_level(), Stopping(), calls=HERMES.reader(TOOLS))
    pieces = [piece for token in byte_tokens(byte_level(), CALL) for piece in parser.feed([token])]
    calls = [piece for piece in pieces if isinstance(piece, CallText)]
    assert calls == pieces
    assert calls[0].name == "get_weather"
    assert calls[0].id.startswith("call_")
    assert len([piece for piece in calls if piece.arguments]) == len('{"city": "STOP"}')
    assert not any(piece.name or piece.id for piece in calls[1:])


@pytest.mark.parametrize(("end", "reason"), [(STOP, TOOL_CALLS), (LENGTH, LENGTH)])
def test_a_choice_with_calls_says_so_unless_it_was_cut(end: FinishReason, reason: FinishReason) -> None:
    """The stop token is told all the same, and is in the call's piece."""
    stop = token("</s>") if end is STOP else None
    parser, pieces = parse(ids(CALL), syntax=HERMES, end=(end, stop))
    assert pieces[-1] == Ended(reason, stop_token=stop)
    assert len(told(pieces)) == parser.completion_tokens == len(ids(CALL)) + (stop is not None)


@pytest.mark.parametrize("end", range(CALL.index("</tool_call>"), len(CALL)))
def test_tokens_of_a_closing_marker_that_is_cut_are_the_calls(end: int) -> None:
    """The call is whole, nothing is text, and the log-probabilities of the marker's tokens are told with the call."""
    tokens = byte_tokens(byte_level(), CALL[:end])
    parser = Parser(byte_level(), Stopping(), calls=HERMES.reader(TOOLS))
    logprobs = [Logprob(-float(place)) for place in range(len(tokens))]
    pieces = [piece for pair in zip(tokens, logprobs, strict=True) for piece in parser.feed([pair[0]], [pair[1]])]
    call, ended = merged(pieces + parser.end(LENGTH))
    assert isinstance(call, CallText)
    assert (call.arguments, list(call.token_ids), list(call.logprobs)) == ('{"city": "STOP"}', tokens, logprobs)
    assert ended == Ended(LENGTH)


def test_a_choice_whose_call_was_none_ends_as_ever() -> None:
    """A broken call is text, and nothing else."""
    _, pieces = parse(ids("<tool_call>oops"), syntax=HERMES, end=(STOP, token("</s>")))
    assert said(pieces) == "<tool_call>oops"
    assert pieces[-1] == Ended(STOP, stop_token=token("</s>"))


def test_stop_strings_are_not_looked_for_in_calls() -> None:
    """Nor do the texts before and after a call make one together."""
    _, pieces = parse(ids(f"a ST{CALL}OP b STOP c"), Stopping(stop=("STOP",)), syntax=HERMES)
    assert said(pieces) == "a STOP b "
    assert made(pieces) == [("get_weather", '{"city": "STOP"}')]
    assert pieces[-1] == Ended(TOOL_CALLS, stop_string="STOP")


def test_what_a_stop_string_held_back_comes_before_the_call() -> None:
    """Pieces keep the order of the text."""
    _, pieces = parse(ids(f"a ST{NOW}"), Stopping(stop=("STOP",)), syntax=HERMES)
    assert [type(piece) for piece in pieces] == [Text, CallText, Ended]
    assert said(pieces) == "a ST"


def test_without_parallel_calls_the_first_ends_the_choice() -> None:
    """What the same feed has after it is ignored; its tokens are not counted."""
    parser = Parser(byte_level(), Stopping(), calls=HERMES.reader(TOOLS), parallel=False)
    first, more = byte_tokens(byte_level(), NOW), byte_tokens(byte_level(), f"\n{NOW} more")
    pieces = merged(parser.feed([*first, *more]))
    assert made(pieces) == [("now", "{}")]
    assert pieces[-1] == Ended(TOOL_CALLS)
    assert told(pieces) == first
    assert parser.ended
    assert parser.completion_tokens == len(first)
    _, both = parse([*first, *more], syntax=HERMES)
    assert made(both) == [("now", "{}"), ("now", "{}")]


@pytest.mark.parametrize("parallel", [True, False])
def test_the_engines_word_counts_for_a_call_that_the_end_completes(parallel: bool) -> None:
    """The stop token after a call without a closing marker is told and counted."""
    call = ids('<tool_call>{"name": "now", "arguments": {}}')
    parser, pieces = parse(call, syntax=HERMES, parallel=parallel, end=(STOP, token("</s>")))
    assert pieces[-1] == Ended(TOOL_CALLS, stop_token=token("</s>"))
    assert parser.completion_tokens == len(call) + 1


def test_calls_in_reasoning_are_reasoning() -> None:
    """They are looked for in the answer only."""
    _, pieces = parse(ids(f"<think>{NOW}</think>\n{NOW}"), markup=THINK, syntax=HERMES)
    assert said(pieces, ReasoningText) == NOW
    assert made(pieces) == [("now", "{}")]


def test_a_stop_token_is_shown_after_a_call_with_include_stop() -> None:
    """As text, which it is."""
    _, pieces = parse(ids(NOW), Stopping(include_stop=True), syntax=HERMES, end=(STOP, token("</s>")))
    assert [type(piece) for piece in pieces] == [CallText, Text, Ended]
    assert said(pieces) == "</s>"


def test_calls_of_harmony_are_found_between_its_messages() -> None:
    """Their markers are special tokens, of which reasoning has some too."""
    tokenizer = byte_level(*HARMONY)
    header = "<|start|>assistant<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}"
    text = f"<|channel|>analysis<|message|>hm<|end|>{header}<|end|>{header}"
    end = (STOP, tokenizer.token_id("<|call|>"))
    _, pieces = parse(ids(text, tokenizer), None, GPT_OSS.markup, tokenizer=tokenizer, syntax=HARMONY_CALLS, end=end)
    assert [type(piece) for piece in pieces] == [ReasoningText, ReasoningEnded, CallText, CallText, Ended]
    assert made(pieces) == [("now", "{}"), ("now", "{}")]
    assert pieces[-1] == Ended(TOOL_CALLS, stop_token=end[1])
    assert told(pieces) == [*ids(text, tokenizer), end[1]]


@pytest.mark.parametrize("tokenizer", [byte_level(), byte_fallback()], ids=["byte_level", "byte_fallback"])
@given(data=st.data(), stopping=stoppings, parallel=st.booleans())
@many
def test_how_the_tokens_of_calls_arrive_does_not_matter(
    tokenizer: Tokenizer, data: st.DataObject, stopping: Stopping, parallel: bool
) -> None:
    """Broken calls and text around them too: the same pieces, with each token and its log-probability in one."""
    part = st.sampled_from(
        [CALL, NOW, "the ", "\n", "<tool_call>", "</tool_call>", "ST", '{"name": ', "<think>a</think>"]
    )
    tokens = data.draw(cuts(tokenizer, st.lists(part, max_size=6).map("".join)))
    scores = [Logprob(-float(place), []) for place in range(len(tokens))]
    results = []
    for size in (1, data.draw(st.integers(2, 9)), len(tokens) or 1):
        parser = Parser(tokenizer, stopping, THINK, calls=HERMES.reader(TOOLS), parallel=parallel, clock=lambda: 0.0)
        pieces: list[Piece] = []
        for start in range(0, len(tokens), size):
            pieces += parser.feed(tokens[start : start + size], scores[start : start + size])
        pieces = merged(pieces + parser.end(LENGTH))
        assert told(pieces) == tokens[: parser.completion_tokens]
        found = [s for p in pieces if isinstance(p, TOLD) for s in p.logprobs]
        assert found == scores[: parser.completion_tokens]
        results.append([msgspec.structs.replace(p, id="") if isinstance(p, CallText) else p for p in pieces])
    assert results[0] == results[1] == results[2]

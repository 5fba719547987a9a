"""Teaches a tiny llama the lessons of a course: `python -m tests.teach NAME FOLDER` writes its model folder."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import optimizers
from mlx.nn.layers.base import Module
from mlx.nn.losses import cross_entropy
from mlx.nn.utils import value_and_grad
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests import tiny
from tests.taught import COURSES, Course, Lesson

_VOCABULARY = 768
_HEADS = 2
"""Without a BLAS library the attention is most of a step, and this halves it."""
_SHARPNESS = 4.0
"""The weight of the last norm at the start: with more than 1 the answers become certain in fewer steps."""
_STEPS = 600
_LEARNED = 0.02
"""The loss of the least certain token, in nats, at which all lessons are known by heart."""
_MUON, _ADAM = 3e-2, 1.5e-2
"""The highest learning rates of the layers' matrices and of all else. They rise for _RISE steps, and fall for _FALL."""
_RISE, _FALL = 5, 45
_GROUP = 4
"""Rows of similar lengths that are one array, padded to the longest."""


@dataclass(frozen=True)
class Row:
    """A lesson in token ids."""

    prompt: list[int]
    answer: list[int]
    has_tools: bool


def tokenizer(course: Course) -> Tokenizer:
    """Train a byte-level BPE tokenizer on the lessons themselves, so that their prompts are short."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    texts = [course.template, *(json.dumps(lesson.tools) + lesson.written for lesson in course.lessons.values())]
    size = _VOCABULARY - len(course.special) - len(course.markers)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens([AddedToken(text, normalized=False) for text in course.special])
    made.add_tokens([AddedToken(text, normalized=False) for text in course.markers])
    return made


def prompt(words: Tokenizer, course: Course, lesson: Lesson) -> str:
    """Render a lesson's conversation as transformers does, which is what the service's own rendering must be."""
    reader: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words, bos_token=course.begin, eos_token=course.end
    )
    messages = [_parsed(message) for message in lesson.messages]
    rendered: str = reader.apply_chat_template(
        messages,
        tools=list(lesson.tools) or None,
        chat_template=course.template,
        add_generation_prompt=True,
        tokenize=False,
        **lesson.kwargs,
    )
    return rendered


def teach(folder: Path, course: Course) -> None:
    """Write a llama that answers each lesson word for word when it decodes greedily."""
    words = tokenizer(course)
    config = tiny.llama_config(
        words.get_vocab_size(),
        eos_token_id=words.token_to_id(course.end),
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        head_dim=16,
    )
    model = tiny.build(config, scale=_SHARPNESS)
    rows = [_row(words, course, lesson) for lesson in course.lessons.values()]
    train(model, rows)
    for row, name in zip(rows, course.lessons, strict=True):
        if not knows(model, row):
            raise RuntimeError(f"the model has not learned the lesson {name!r}")
    tiny.save(folder, model, config, words, template=course.template)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tiny.write_json(folder / "tokenizer_config.json", settings | {"bos_token": course.begin, "eos_token": course.end})


class Beginning:
    """A layer's keys and values of what all rows begin with, computed once a step; in place of a KV cache.

    The layers learn nothing through them, which is quicker, and enough.
    """

    def __init__(self) -> None:
        self.offset = 0
        self._kept: tuple[mx.array, mx.array] | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Keep the first ones, [1, heads, tokens, width], and put them before each row of the next."""
        if self._kept is None:
            self._kept = mx.stop_gradient(keys), mx.stop_gradient(values)
            self.offset = keys.shape[2]
            return keys, values
        first, second = (mx.broadcast_to(kept, (keys.shape[0], *kept.shape[1:])) for kept in self._kept)
        return mx.concatenate([first, keys], axis=2), mx.concatenate([second, values], axis=2)


class Group:
    """Rows of similar lengths, without the `shared` tokens that they begin with."""

    def __init__(self, rows: Sequence[Row], shared: int) -> None:
        rests = [row.prompt[shared:] + row.answer[:-1] for row in rows]
        longest = max(map(len, rests))
        self._rests = mx.array([rest + [0] * (longest - len(rest)) for rest in rests])
        self._places = mx.array(
            [
                number * longest + place
                for number, (row, rest) in enumerate(zip(rows, rests, strict=True))
                for place in range(len(rest) - len(row.answer), len(rest))
            ]
        )
        self._expected = mx.array([token for row in rows for token in row.answer])

    def losses(self, model: Any, beginnings: Sequence[Beginning]) -> mx.array:
        """Return the losses of all tokens of the answers, in nats, after the beginnings, one a layer."""
        hidden = model.model(self._rests, beginnings).reshape(-1, model.args.hidden_size)
        return cross_entropy(model.lm_head(hidden[self._places]), self._expected)


class Batch:
    """Rows that begin with the same tokens."""

    def __init__(self, rows: Sequence[Row]) -> None:
        rows = sorted(rows, key=lambda row: len(row.prompt) + len(row.answer))
        # One token is left, since the first of an answer is predicted from it.
        shared = _common([row.prompt[:-1] for row in rows])
        self._beginning = mx.array([rows[0].prompt[:shared]])
        self._groups = [Group(rows[at : at + _GROUP], shared) for at in range(0, len(rows), _GROUP)]

    def losses(self, model: Any) -> mx.array:
        """Return the losses of all tokens of the answers, in nats."""
        beginnings = [Beginning() for _ in model.layers]
        model.model(self._beginning, beginnings)
        return mx.concatenate([group.losses(model, beginnings) for group in self._groups])


def train(model: Module, rows: Sequence[Row]) -> None:
    """Teach all rows at once, until they are known by heart. Raises RuntimeError if that takes too long."""
    batches = [Batch([row for row in rows if row.has_tools is kind]) for kind in (False, True)]

    def loss_of(model: Module) -> tuple[mx.array, mx.array]:
        losses = mx.concatenate([batch.losses(model) for batch in batches])
        return losses.mean(), losses.max()

    step = value_and_grad(model, loss_of)
    muon = optimizers.Muon(_rate(_MUON), momentum=0.9, weight_decay=0)
    adam = optimizers.Adam(_rate(_ADAM), betas=[0.9, 0.95])
    optimizer = optimizers.MultiOptimizer([muon, adam], [_is_matrix_of_a_layer])
    for _ in range(_STEPS):
        (_, worst), gradients = step(model)
        optimizer.update(model, gradients)
        mx.eval(tiny.parameters(model), optimizer.state)
        if worst.item() < _LEARNED:
            return
    raise RuntimeError("the model does not learn")


def _rate(peak: float) -> Callable[[mx.array], mx.array]:
    """Return a learning rate by the step, which ends at a tenth of its peak."""
    rise, fall = optimizers.linear_schedule(0, peak, _RISE), optimizers.cosine_decay(peak, _FALL, peak / 10)
    return optimizers.join_schedules([rise, fall], [_RISE])


def _is_matrix_of_a_layer(name: str, weight: mx.array) -> bool:
    return "layers" in name and weight.ndim == 2


def _common(lists: Sequence[Sequence[int]]) -> int:
    """How many of their first items all lists share."""
    return next(
        (place for place, column in enumerate(zip(*lists, strict=False)) if len(set(column)) > 1), min(map(len, lists))
    )


def knows(model: Module, row: Row) -> bool:
    """Whether each token of the answer is the likeliest after those before it."""
    ids = row.prompt + row.answer
    likeliest = mx.argmax(model(mx.array([ids[:-1]]))[0, len(row.prompt) - 1 :], axis=-1)
    return [int(token) for token in likeliest] == row.answer


def _row(words: Tokenizer, course: Course, lesson: Lesson) -> Row:
    text = prompt(words, course, lesson)
    answer = lesson.written + (lesson.end or course.end)
    prompt_ids, answer_ids = (words.encode(each, add_special_tokens=False).ids for each in (text, answer))
    return Row(prompt_ids, answer_ids, has_tools=bool(lesson.tools))


def _parsed(message: dict[str, Any]) -> dict[str, Any]:
    """Give the calls of a message their arguments as objects, which templates expect."""
    if "tool_calls" not in message:
        return message
    calls = [
        call | {"function": call["function"] | {"arguments": json.loads(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return message | {"content": message["content"] or "", "tool_calls": calls}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=COURSES)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    teach(options.folder, COURSES[options.name])

"""Sequences that have a place."""

from mlx.nn.layers.base import Module

from service.engine.batch import Batch
from service.engine.forward import Forward
from service.engine.frames import Submit
from service.engine.prefill import Prefill
from service.engine.running import Running
from service.engine.sequence import Sequence
from tests.service.engine.models import GREEDY


def half_way(model: Module) -> tuple[Running, list[Sequence]]:
    """Give three that run: the first two are decoded, as one band, and the prompt of the last is processed in part."""
    forward = Forward(model)
    prefill, batch = Prefill(forward, chunk=16, can_batch=True), Batch(forward, banded=False)
    rows = [Sequence(Submit(seq, [1] * length, GREEDY, 9)) for seq, length in enumerate((5, 9, 40))]
    for row in rows:
        prefill.add(row)
    while len(batch) < 2:
        prefill.start(decoding=0)
        batch.join(prefill.collect().ready)
    return Running(prefill, batch), rows


def test_all_that_have_a_place_count(plain: Module) -> None:
    """Whether their prompts are processed or they are decoded, until they leave."""
    running, rows = half_way(plain)
    assert (len(running), set(running)) == (3, set(rows))
    running.leave(rows[1:])
    assert (len(running), list(running)) == (1, rows[:1])


def test_memory_counts_padding_and_whole_prompts(plain: Module) -> None:
    """A band's rows are all as long as its longest; a prompt takes what it will take once it is processed."""
    running, _ = half_way(plain)
    assert running.bytes(lambda length: 100 * length) == 100 * (9 + 9 + 40)


def test_one_that_is_put_back_leaves_nobody_its_place(plain: Module) -> None:
    """Nobody is admitted before another leaves; what it had is gone."""
    running, rows = half_way(plain)
    assert not running.is_full
    running.put_back(rows[2])
    assert (running.is_full, len(running)) == (True, 2)
    assert (rows[2].cache, rows[2].prefilled) == (None, 0)
    running.leave(rows[:1])
    assert not running.is_full

"""Places in the queue."""

from mlx.nn.layers.base import Module

from tests.service.engine.models import Engine


def test_places_in_the_queue_are_told(plain: Module) -> None:
    """To those that ask, each time that they change."""
    engine = Engine(plain, max_running=1)
    for seq in range(4):
        engine.submit(seq, [1, 2], max_tokens=2, report=seq != 2)
    engine.run()
    assert engine.places == {1: [0], 3: [2, 1, 0]}

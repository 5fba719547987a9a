"""A model as it was at one moment."""

import pytest

from service.config import ModelConfig
from service.pool.progress import LoadProgress, Stage
from service.pool.snapshot import Snapshot
from service.pool.state import ModelState


@pytest.mark.parametrize(
    ("progress", "fraction"),
    [
        (None, 0.0),
        (LoadProgress(Stage.DOWNLOADING, 1, 4), 0.25),
        (LoadProgress(Stage.DOWNLOADING, 1), 0.0),
        (LoadProgress(Stage.WAITING, 1, 4), 0.0),
        (LoadProgress(Stage.LOADING, fraction=0.5), 0.5),
    ],
)
def test_how_far_it_is(progress: LoadProgress | None, fraction: float) -> None:
    """While it is fetched, by its bytes; memory that is free while it waits is no progress."""
    config = ModelConfig("a", path="/m")
    seen = Snapshot(config, ModelState.LOADING, "", None, pinned=False, in_use=0, memory_bytes=0, progress=progress)
    assert seen.fraction == fraction

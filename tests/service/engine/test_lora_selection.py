"""Where rows find their factors."""

import mlx.core as mx

from service.engine.lora_selection import NONE, Selection


def test_rows_that_have_none_of_them_need_nothing() -> None:
    """Neither rows without a LoRA nor those with another one have a place."""
    assert Selection([NONE, 7]).places((3, 4), 8, mx.float32) is None


def test_rows_with_one_lora_share_a_place() -> None:
    """No row is told from the others then."""
    places = Selection([4, 4, 4]).places((3, 4), 8, mx.float32)
    assert places is not None
    assert places.only == 1


def test_one_row_without_tells_the_rows_apart() -> None:
    """The row has no factors of its own, whatever its place."""
    places = Selection([4, NONE, 3]).places((3, 4), 2, mx.bfloat16)
    assert places is not None
    assert places.only is None
    assert places.has is not None
    assert places.has.flatten().tolist() == [True, False, True]
    assert places.index[0].item() == 1
    assert places.index[2].item() == 0
    own = [[False, False, True, True], [False] * 4, [True, True, False, False]]
    assert places.own.tolist() == own
    assert (places.nothing.shape, places.nothing.dtype) == ((3, 4), mx.bfloat16)


def test_rows_that_all_have_one_need_no_mask() -> None:
    """Their places say all."""
    places = Selection([4, 3]).places((3, 4), 2, mx.bfloat16)
    assert places is not None
    assert places.has is None
    assert places.only is None

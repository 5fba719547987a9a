"""Where prompts are likely to part."""

import pytest

from service.pool.prompt import boundaries

END = 9


@pytest.mark.parametrize(
    ("ids", "lengths"),
    [
        ([], []),
        ([1, 2, 3], []),
        ([1, END, 2], [2]),
        ([END, 1, 8, END, 2, 3], [1, 3, 4]),
        ([1, END], []),
        ([1, END, END], [2]),
    ],
)
def test_a_prefix_ends_with_a_turn(ids: list[int], lengths: list[int]) -> None:
    """Just after its last token, and before the end of the prompt."""
    assert boundaries(ids, {END, 8}) == lengths


def test_long_conversations_keep_their_start_and_their_end() -> None:
    """The system prompt and the first turn, and the last turns."""
    assert boundaries([1, END] * 20 + [1], {END}) == [2, 4, 36, 38, 40]
    assert boundaries([1, END] * 5 + [1], {END}) == [2, 4, 6, 8, 10]

"""The models that a pool knows by their aliases."""

from pathlib import Path

import pytest

from service.config import ModelConfig, ServiceConfig
from service.errors import InvalidField, PathNotAllowed, UnknownModel
from service.pool.model import Model
from service.pool.roster import Roster
from service.pool.state import ModelState


@pytest.fixture
def roster(tmp_path: Path) -> Roster:
    """Give one that knows a model, and a folder for others."""
    (tmp_path / "other").mkdir()
    known = ModelConfig("first", path=str(tmp_path / "." / "mine"))
    config = ServiceConfig(models=(known,), model_folders=(str(tmp_path),))
    return Roster(config, lambda model: Model(model, config))


def test_what_is_found_is_not_known_by_that(roster: Roster) -> None:
    """It is once it is added, and only once."""
    found = roster.find("new", "other")
    assert (found in roster, roster.models) == (False, [roster.get("")])
    roster.add(found)
    roster.add(found)
    assert roster.find("new") is roster.get("new") is found
    assert [model.name for model in roster.models] == ["first", "new"]


def test_what_cannot_be_found_is_refused(roster: Roster) -> None:
    """By what is wrong with it."""
    with pytest.raises(UnknownModel):
        roster.find("new")
    with pytest.raises(PathNotAllowed):
        roster.find("new", "/etc")
    with pytest.raises(InvalidField):
        roster.find("first", "other")


@pytest.mark.parametrize("end", [ModelState.UNLOADED, ModelState.FAILED])
def test_only_one_that_has_been_there_stays(roster: Roster, end: ModelState) -> None:
    """Those that are configured stay in any case; a name that is free again does not stand for the model it was."""
    came, never = roster.find("came", "other"), roster.find("never", "other")
    for model in (came, never):
        roster.add(model)
    came.state = ModelState.READY
    assert not roster.review(came)
    for model in roster.models:
        model.state = end
    assert [model.name for model in roster.models if roster.review(model)] == ["never"]
    assert [model.name for model in roster.models] == ["first", "came"]
    roster.add(roster.find("never", "other"))
    assert never not in roster

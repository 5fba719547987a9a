"""How a chat template is told how much the model should think."""

import re
from collections.abc import Mapping

from service.text.template import ChatTemplate
from service.types import Effort, Reasoning

_SWITCHES = ("enable_thinking", "thinking")
"""Variables that are true or false."""
_LEVEL = "reasoning_effort"
_BUDGET = "thinking_budget"
_USUAL = (Effort.LOW, Effort.MEDIUM, Effort.HIGH)
"""What templates that list no levels know."""


class ReasoningSwitches:
    """The variables of one template that say how much to think."""

    def __init__(self, template: ChatTemplate) -> None:
        self._read = [name for name in (*_SWITCHES, _LEVEL, _BUDGET) if template.mentions(name)]
        listed = [level for level in Effort if re.search(f"""['"]{level.value}['"]""", template.source)]
        # One alone is a default.
        self._levels = listed if len(listed) > 1 else _USUAL

    @property
    def any(self) -> bool:
        """Whether the template can be told anything."""
        return bool(self._read)

    def variables(self, reasoning: Reasoning) -> dict[str, object]:
        """Values of those that the template reads."""
        told: dict[str, object] = {}
        if (effort := reasoning.effort) is not None:
            told = dict.fromkeys(_SWITCHES, effort is not Effort.NONE) | {_LEVEL: self._nearest(effort).value}
        if reasoning.budget is not None:
            told[_BUDGET] = reasoning.budget
        return {name: told[name] for name in self._read if name in told}

    def are_set_in(self, kwargs: Mapping[str, object]) -> bool:
        """Whether a request sets one of them by its name."""
        return any(name in kwargs for name in self._read)

    def _nearest(self, effort: Effort) -> Effort:
        """Return the level that is nearest, of two the higher; none only for none."""
        order = list(Effort)
        wanted = order.index(effort)
        levels = [level for level in self._levels if effort is Effort.NONE or level is not Effort.NONE]
        return min(levels or _USUAL, key=lambda level: (abs(order.index(level) - wanted), -order.index(level)))

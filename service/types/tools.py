"""Tools that a model may call, and whether it must."""

import enum
import re
from dataclasses import dataclass

from service.errors import InvalidField

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class ToolMode(enum.Enum):
    """Whether tools may, must or must not be called."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"
    FUNCTION = "function"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is its JSON Schema as JSON text, empty if it has none.

    `strict`: automatic calls are held to the schema as well.
    """

    name: str
    description: str
    parameters: str
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a request and how they are to be called; `name` is the function of ToolMode.FUNCTION."""

    tools: tuple[Tool, ...] = ()
    mode: ToolMode = ToolMode.NONE
    name: str = ""
    parallel: bool = True

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for index, tool in enumerate(self.tools):
            if not _TOOL_NAME.fullmatch(tool.name):
                raise InvalidField(
                    f"tools[{index}].name", "must have 1 to 64 letters, digits, underscores, hyphens and dots"
                )
            if tool.name in seen:
                raise InvalidField(f"tools[{index}].name", "is the name of an earlier tool")
            seen.add(tool.name)
        if self.is_forced and not self.tools:
            raise InvalidField("tool_choice.mode", "needs tools")
        if self.mode is ToolMode.FUNCTION and self.name not in seen:
            raise InvalidField("tool_choice.function_name", "must be the name of one of the tools")
        if self.mode is not ToolMode.FUNCTION and self.name:
            raise InvalidField("tool_choice.function_name", "is for TOOL_CHOICE_MODE_FUNCTION only")

    @property
    def is_forced(self) -> bool:
        """Whether the answer must be calls."""
        return self.mode in {ToolMode.REQUIRED, ToolMode.FUNCTION}

    @property
    def shown(self) -> tuple[Tool, ...]:
        """The tools that the model gets to see."""
        return () if self.mode is ToolMode.NONE else self.tools

    @property
    def callable(self) -> tuple[Tool, ...]:
        """Those of them that it may call."""
        return tuple(tool for tool in self.shown if self.mode is not ToolMode.FUNCTION or tool.name == self.name)

    @property
    def several(self) -> bool:
        """Whether one answer may hold several calls."""
        return self.parallel and self.mode is not ToolMode.FUNCTION

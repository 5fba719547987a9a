"""What an answer must look like."""

import enum
from dataclasses import dataclass

from service.errors import InvalidField
from service.types.bounds import MAX_JSON, MAX_OPTION, MAX_OPTIONS, MAX_PATTERN
from service.types.checks import check_count


class Rule(enum.Enum):
    """How a constraint says what the text must look like; the values are the fields of the wire's message."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    REGEX = "regex"
    GRAMMAR = "grammar"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the text must look like: `text` is the schema, expression or grammar, or `options` are the choices."""

    rule: Rule
    text: str = ""
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rule in {Rule.REGEX, Rule.GRAMMAR} and not 1 <= len(self.text) <= MAX_PATTERN:
            raise InvalidField(self.rule.value, f"must have 1 to {MAX_PATTERN} characters")
        if self.rule is Rule.CHOICE:
            if not 1 <= len(self.options) <= MAX_OPTIONS:
                raise InvalidField("choice.options", f"must have 1 to {MAX_OPTIONS} texts")
            for index, option in enumerate(self.options):
                if not 1 <= len(option) <= MAX_OPTION:
                    raise InvalidField(f"choice.options[{index}]", f"must have 1 to {MAX_OPTION} characters")
            check_count("choice.options", sum(map(len, self.options)), MAX_JSON, "characters together")

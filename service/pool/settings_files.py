"""The JSON files of a model folder, whose settings have the types that the libraries take for granted."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.errors import SetupError

_LARGEST = 1 << 53
_QUOTED = 60
"""Characters of a value that an error shows."""
_LENGTHS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length"),
    *("vocab_size", "num_hidden_layers"),
)

Settings = dict[str, Any]


def check_settings(folder: Path) -> Settings:
    """The config.json of a folder. Raises SetupError, with the file's name, for one that no engine can read."""
    config = read_settings(folder / "config.json")
    with_nested = [(config, "")]
    if _is_wrong(nested := config.get("text_config"), dict):
        raise _refused(folder / "config.json", "text_config", "an object", nested)
    if nested:
        with_nested.append((nested, "text_config."))
    for settings, prefix in with_nested:
        _check_config(folder / "config.json", settings, prefix)
    for name in ("generation_config.json", "tokenizer_config.json"):
        if (file := folder / name).exists():
            more = read_settings(file)
            _check_stops(file, more) if name.startswith("generation") else _check_template(file, more)
    return config


def read_settings(file: Path) -> Settings:
    """An object in a JSON file. Raises SetupError for one that cannot be read."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SetupError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise SetupError(f"{file} is not an object")
    return settings


def _check_config(file: Path, settings: Mapping[str, Any], prefix: str) -> None:
    kind = settings.get("model_type")
    if not isinstance(kind, str) and (not prefix or kind is not None):
        raise _refused(file, f"{prefix}model_type", "the name of a model's kind", kind)
    names = settings.get("architectures")
    if _is_wrong(names, list) or not all(isinstance(name, str) for name in names or ()):
        raise _refused(file, f"{prefix}architectures", "a list of names", names)
    for name in ("quantization", "quantization_config"):
        if _is_wrong(value := settings.get(name), dict):
            raise _refused(file, f"{prefix}{name}", "an object", value)
    for name in _LENGTHS:
        if (value := settings.get(name)) is not None and not _is_number(value):
            raise _refused(file, f"{prefix}{name}", "a number that can be", value)
    _check_stops(file, settings, prefix)


def _check_stops(file: Path, settings: Mapping[str, Any], prefix: str = "") -> None:
    ids = settings.get("eos_token_id")
    each = ids if isinstance(ids, list) else [] if ids is None else [ids]
    if not all(isinstance(number, int) and abs(number) < _LARGEST for number in each):
        raise _refused(file, f"{prefix}eos_token_id", "a token's id, or a list of them", ids)


def _check_template(file: Path, settings: Mapping[str, Any]) -> None:
    template = settings.get("chat_template")
    if template is not None and not isinstance(template, str | list | dict):
        raise _refused(file, "chat_template", "text", template)


def _is_wrong(value: object, kind: type) -> bool:
    return value is not None and not isinstance(value, kind)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < _LARGEST


def _refused(file: Path, name: str, what: str, value: object) -> SetupError:
    said = json.dumps(value)
    return SetupError(
        f"{file} says {name} = {said if len(said) <= _QUOTED else said[:_QUOTED] + '…'}, which is not {what}"
    )

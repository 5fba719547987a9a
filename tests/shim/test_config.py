"""Config values that cannot be used."""

from typing import Any

import pytest

from shim.config import Address, Config, ConfigError


@pytest.mark.parametrize(
    "fields",
    [
        {"listen": "nowhere"},
        {"listen": "host:99999"},
        {"listen": "::1:80"},
        {"listen": ":80"},
        {"service": ()},
        {"service": ("x",)},
        {"service": ("x:0",)},
        {"service": ("unix:",)},
        {"workers": 0},
        {"drain_s": -1.0},
        {"drain_s": float("nan")},
        {"drain_s": float("inf")},
        {"max_body_bytes": 0},
        {"deadline_s": 0.0},
        {"keep_alive_s": -1.0},
        {"keep_alive_s": float("inf")},
        {"head_timeout_s": 0.0},
        {"body_timeout_s": float("nan")},
        {"write_timeout_s": float("inf")},
        {"log_level": "loud"},
        {"log_level": "INFO"},
        {"cors_origins": ("chat.example",)},
        {"cors_origins": ("https://chat.example/",)},
        {"cors_origins": ("*", "")},
    ],
)
def test_a_bad_value_is_refused(fields: dict[str, Any]) -> None:
    """Values are checked where they are defined."""
    with pytest.raises(ConfigError):
        Config(**fields)


def test_addresses_are_read_and_written() -> None:
    """An IPv6 host has brackets in the text and none in the field."""
    assert Address.parse("[::1]:80") == Address("::1", 80)
    assert str(Address("::1", 80)) == "[::1]:80"
    assert Config(service=("unix:/tmp/s", "h:1")).address == Address("127.0.0.1", 8000)

"""Flags and the config file."""

from pathlib import Path

import pytest

from shim.config import Config, ConfigError
from shim.options import read_config


def test_no_flags_are_the_defaults() -> None:
    """Without flags the shim listens on 8000 and calls 50051."""
    assert read_config([]) == Config(listen="127.0.0.1:8000", service=("127.0.0.1:50051",), workers=1)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    """What a flag says is not read from the file; the rest is."""
    file = tmp_path / "shim.toml"
    file.write_text('listen = "h:1"\nservice = "a:1"\nworkers = 3\ndrain_s = 5\n')
    config = read_config(["--config", str(file), "--service", "b:1", "--service", "unix:/s", "--workers", "2"])
    assert config == Config(listen="h:1", service=("b:1", "unix:/s"), workers=2, drain_s=5)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--listen", "nowhere"),
        ("--listen", "h:99999"),
        ("--service", "x"),
        ("--service", "x:0"),
        ("--service", "unix:"),
        ("--workers", "0"),
        ("--drain-s", "nan"),
        ("--drain-s", "inf"),
        ("--log-level", "loud"),
    ],
)
def test_a_bad_flag_is_refused_by_name(flag: str, value: str) -> None:
    """The error begins with the flag as it was written."""
    with pytest.raises(ConfigError, match=f"^{flag}: "):
        read_config([flag, value])


@pytest.mark.parametrize("key", ["listen", "service"])
def test_a_bad_address_in_the_file_is_refused_by_its_key(tmp_path: Path, key: str) -> None:
    """What the file says is blamed on the file, even where another flag is given."""
    file = tmp_path / "shim.toml"
    file.write_text(f'{key} = "nowhere"')
    with pytest.raises(ConfigError, match=rf"shim\.toml: {key}: not HOST:PORT"):
        read_config(["--config", str(file), "--workers", "2"])


def test_the_file_says_what_no_flag_does(tmp_path: Path) -> None:
    """Times, compression and origins are in the file; a single origin needs no list."""
    file = tmp_path / "shim.toml"
    file.write_text(
        'cors_origins = "https://a.example"\ngzip = false\nkeep_alive_s = 0\nhead_timeout_s = 1\n'
        "body_timeout_s = 2\nwrite_timeout_s = 3.5\n"
    )
    assert read_config(["--config", str(file)]) == Config(
        cors_origins=("https://a.example",), gzip=False, keep_alive_s=0, head_timeout_s=1, body_timeout_s=2,
        write_timeout_s=3.5,
    )  # fmt: skip


def test_the_drain_has_the_services_time_and_a_flag() -> None:
    """Ten minutes, unless --drain-s says otherwise."""
    assert read_config([]).drain_s == 600
    assert read_config(["--drain-s", "1.5"]).drain_s == 1.5


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "surprise = 1",
        "workers = '2'",
        "workers = true",
        "service = [1]",
        "drain_s = 'x'",
        "gzip = 1",
        "cors_origins = [1]",
        "cors_origins = ['x']",
        "keep_alive_s = true",
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    """The error names the file, and the key where there is one."""
    file = tmp_path / "shim.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"shim\.toml"):
        read_config(["--config", str(file)])

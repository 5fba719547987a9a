"""Flags and TOML become one record, or one line that says why not."""

from pathlib import Path

import pytest

from service.config import BUILT_IN_MODEL, DEFAULT_LISTEN, ModelConfig, default_cache_dir, parse_model, read_config
from service.errors import SetupError


def test_nothing_is_the_built_in_model() -> None:
    """On the default address."""
    config = read_config(None, {})
    assert config.listen == (DEFAULT_LISTEN,)
    [model] = config.models
    assert (model.name, model.source) == (BUILT_IN_MODEL, "built-in")


def test_a_file_says_everything(tmp_path: Path) -> None:
    """Models in their order, and settings beside them."""
    file = tmp_path / "service.toml"
    file.write_text(
        'listen = ["unix:/tmp/x"]\nmax_running = 4\nheartbeat_timeout_s = 2\nkv_cache_bytes = 9\n'
        '[[models]]\nname = "b"\npath = "/b"\ncontext_length = 64\nkv_cache_bytes = 5\nprefix_cache_bytes = 0\n'
        '[[models]]\nname = "a"\nrepo = "owner/a"\nrevision = "v1"\n'
    )
    config = read_config(file, {})
    assert (config.listen, config.max_running, config.heartbeat_timeout_s) == (("unix:/tmp/x",), 4, 2.0)
    assert (config.kv_cache_bytes, config.prefix_cache_bytes) == (9, None)
    assert config.models == (
        ModelConfig("b", path="/b", context_length=64, kv_cache_bytes=5, prefix_cache_bytes=0),
        ModelConfig("a", repo="owner/a", revision="v1"),
    )


def test_a_file_says_what_the_pool_does(tmp_path: Path) -> None:
    """How much memory there is, what stays in it, and what is loaded when; and what is so unless it is said."""
    file = tmp_path / "service.toml"
    file.write_text(
        'memory_bytes = 9\nmodel_folders = ["/m"]\nttl_s = 60\nhang_timeout_s = 5\nspare = "never"\n'
        '[[models]]\nname = "a"\npath = "/a"\n'
        '[[models]]\nname = "b"\npath = "/b"\npinned = true\npreload = false\nttl_s = 1\n'
        'trust_remote_code = true\nloras = {x = "/x"}\n'
    )
    config = read_config(file, {})
    assert (config.memory_bytes, config.model_folders, config.ttl_s) == (9, ("/m",), 60.0)
    assert (config.hang_timeout_s, config.spare) == (5.0, "never")
    plain, other = config.models
    assert (plain.pinned, plain.preload, plain.ttl_s, plain.trust_remote_code, plain.loras) == (
        *(False, True, None),
        *(False, {}),
    )
    assert (other.pinned, other.preload, other.ttl_s, other.trust_remote_code, other.loras) == (
        *(True, False, 1.0),
        *(True, {"x": "/x"}),
    )


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    """Only where they are given."""
    file = tmp_path / "service.toml"
    file.write_text("max_running = 4\nmax_queued = 5\n")
    config = read_config(file, {"max_running": 6})
    assert (config.max_running, config.max_queued) == (6, 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listen = []", "listen"),
        ("listen = ['here']", "here"),
        ("listen = [':80']", ":80"),
        ("listen = ['h:-1']", "h:-1"),
        ("listen = ['h:65536']", "0 to 65535"),
        (f"listen = ['h:{'9' * 5000}']", "0 to 65535"),
        ("listen = ['h:²']", "neither HOST:PORT"),
        ("listen = ['unix:']", "unix:"),
        ("models = []", "models"),
        ("max_running = 0", "max_running"),
        ("max_queued = -1", "max_queued"),
        ("prefill_chunk = 0", "prefill_chunk"),
        ("engine_threads = 0", "engine_threads"),
        ("kv_cache_bytes = 0", "kv_cache_bytes"),
        ("prefix_cache_bytes = -1", "prefix_cache_bytes"),
        ("[[models]]\nname = 'a'\npath = '/x'\nkv_cache_bytes = 0", "kv_cache_bytes"),
        ("[[models]]\nname = 'a'\npath = '/x'\nprefix_cache_bytes = -1", "prefix_cache_bytes"),
        ("max_request_bytes = 0", "max_request_bytes"),
        ("heartbeat_timeout_s = 0", "heartbeat_timeout_s"),
        ("hang_timeout_s = 0", "hang_timeout_s"),
        ("memory_bytes = 0", "memory_bytes"),
        ("ttl_s = 0", "ttl_s"),
        ("ttl_s = inf", "ttl_s"),
        ("spare = 'perhaps'", "spare"),
        ("model_folders = ['']", "model_folders"),
        ("[[models]]\nname = 'a'\npath = '/x'\nttl_s = -1", "ttl_s"),
        ("[[models]]\nname = 'a'\npath = '/x'\nloras = {'a b' = '/l'}", "loras"),
        ("[[models]]\nname = 'a'\npath = '/x'\nloras = {'a:b' = '/l'}", "loras"),
        ("[[models]]\nname = 'a'\npath = '/x'\nloras = {a = ''}", "loras"),
        ("drain_s = -1", "drain_s"),
        ("drain_s = nan", "drain_s"),
        ("log_level = 'loud'", "log_level"),
        ("colour = 'red'", "colour"),
        ("max_running = 1.5", "max_running"),
        ("[[models]]\nname = ''\npath = '/x'", "name"),
        ("[[models]]\nname = 'a b'\npath = '/x'", "a b"),
        ("[[models]]\nname = 'a'\npath = '/x'\nrepo = 'o/n'", "not both"),
        ("[[models]]\nname = 'a'", "path or a repo"),
        ("[[models]]\nname = 'a'\npath = '/x'\nrevision = 'v1'", "revision"),
        ("[[models]]\nname = 'a'\npath = '/x'\ncontext_length = 0", "context_length"),
        ("[[models]]\nname = 'a'\npath = '/x'\n[[models]]\nname = 'a'\npath = '/y'", "same name, 'a'"),
        ("= 1", "TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    """In one line."""
    file = tmp_path / "service.toml"
    file.write_text(text)
    with pytest.raises(SetupError) as raised:
        read_config(file, {})
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A folder in its place too."""
    for file in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(SetupError, match="cannot read") as raised:
            read_config(file, {})
        assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    "source", ["/x", "./x", "../x", "~/x", "x", "a/b/c", "../a/b", "/a/b/c.gguf", "x.gguf", "a/../b/c.gguf", "x" * 5000]
)
def test_a_path_is_a_path(source: str) -> None:
    """Whatever does not look like a repository is on disk."""
    assert parse_model(f"a={source}") == ModelConfig("a", path=source)


def test_owner_and_name_are_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless there is such a folder."""
    monkeypatch.chdir(tmp_path)
    assert parse_model("a=owner/name") == ModelConfig("a", repo="owner/name")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert parse_model("a=owner/name") == ModelConfig("a", path="owner/name")


def test_a_file_of_a_repository_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a file of settings; unless there is such a file on disk."""
    monkeypatch.chdir(tmp_path)
    assert parse_model("a=owner/name/x.Q8_0.gguf") == ModelConfig("a", repo="owner/name/x.Q8_0.gguf")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "x.Q8_0.gguf").touch()
    assert parse_model("a=owner/name/x.Q8_0.gguf") == ModelConfig("a", path="owner/name/x.Q8_0.gguf")


def test_a_name_that_is_too_long_for_a_path_is_a_repository() -> None:
    """Asking the disk for it fails, and says nothing."""
    name = f"owner/{'x' * 5000}"
    assert parse_model(f"a={name}") == ModelConfig("a", repo=name)


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/3", "feature/a+b", "0123abc"])
def test_a_revision_is_a_branch_a_tag_or_a_commit(revision: str) -> None:
    """As they are written."""
    assert ModelConfig("a", repo="o/n", revision=revision).revision == revision


@pytest.mark.parametrize(
    "revision", ["-h", "--code", "/etc/passwd", "../../x", "a/../b", "a b", "a\0b", "a\nb", "x" * 300]
)
def test_a_revision_leads_nowhere_else(revision: str) -> None:
    """It is a flag of a program, and a path in the hub's cache."""
    with pytest.raises(ValueError, match="revision"):
        ModelConfig("a", repo="o/n", revision=revision)


def test_the_source_may_have_an_equals_sign() -> None:
    """The first one ends the name."""
    assert parse_model("a=/x=y") == ModelConfig("a", path="/x=y")


@pytest.mark.parametrize("text", ["", "a", "=/x", "a b=/x", "a="])
def test_a_flag_that_names_no_model_is_refused(text: str) -> None:
    """With the flag in the line."""
    with pytest.raises(SetupError, match="--model"):
        parse_model(text)


@pytest.mark.parametrize("text", ["/no/such", "owner/name", "qwen"])
def test_a_source_without_an_alias_is_told_so(text: str) -> None:
    """Rather than that a model of that name needs a source."""
    with pytest.raises(SetupError, match=f"--model {text} is not ALIAS=SOURCE"):
        parse_model(text)


def test_the_built_in_model_can_be_named() -> None:
    """To serve it beside others."""
    assert parse_model(BUILT_IN_MODEL) == ModelConfig(BUILT_IN_MODEL)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours first, then the desktop's, then the user's home."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("MLX_GRPC_CACHE", raising=False)
    assert default_cache_dir() == Path("/home/me/.cache/mlx-grpc")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_cache_dir() == Path("/xdg/mlx-grpc")
    monkeypatch.setenv("MLX_GRPC_CACHE", "/ours")
    assert default_cache_dir() == Path("/ours")

"""What is shipped: the stubs, the schema that they are made from, and the wheel."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def test_the_stubs_are_those_of_the_schema(root: Path, tmp_path: Path) -> None:
    """Generating them again gives the committed files, byte for byte."""
    copy = tmp_path / "copy"
    shutil.copytree(root / "protos", copy / "protos", ignore=shutil.ignore_patterns("*_pb2*", "__pycache__"))
    shutil.copy(root / "Makefile", copy)
    shutil.copy(root / "requirements.lock", copy)
    shutil.copy(root / "pyproject.toml", copy)
    tools = Path(sys.executable).parent
    subprocess.run(
        ["make", "proto", f"BIN={tools}", f"VENV={tools.parent}", "--assume-old", f"{tools.parent}/installed"],
        cwd=copy,
        check=True,
        capture_output=True,
    )
    made = {path.name: path.read_text() for path in (copy / "protos/mlx_grpc/v1").iterdir()}
    committed = {path.name: path.read_text() for path in (root / "protos/mlx_grpc/v1").glob("*_pb2*")}
    assert {name: text for name, text in made.items() if name.endswith(GENERATED)} == committed


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_has_the_stubs_the_schema_and_types(wheel: Path) -> None:
    """Users get the .proto files and py.typed beside the stubs, and no tests."""
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in ("generation", "models", "tokenizer", "admin"):
        assert {f"mlx_grpc/v1/{file}{ending}" for ending in (".proto", *GENERATED)} <= names
    assert {"mlx_grpc/py.typed", "service/__main__.py", "shim/__main__.py"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"mlx_grpc", "service", "shim"}


def test_the_thin_client_runs_on_protobuf_7(wheel: Path, root: Path, tmp_path: Path) -> None:
    """The wheel's stubs need nothing but grpcio and protobuf, and take protobuf's next major version too."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path)]
    lock = root / "tests/e2e/protobuf7.lock"
    subprocess.run([*pip, "--require-hashes", "--requirement", str(lock)], check=True, capture_output=True)
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    check = (
        "import google.protobuf, mlx_grpc.v1.generation_pb2 as pb\n"
        "from mlx_grpc.v1 import admin_pb2_grpc, generation_pb2_grpc, models_pb2_grpc, tokenizer_pb2_grpc\n"
        "assert google.protobuf.__version__.startswith('7.'), google.protobuf.__version__\n"
        "assert pb.ChatRequest.FromString(pb.ChatRequest(model='m').SerializeToString()).model == 'm'\n"
        "import sys; assert not {'service', 'shim', 'mlx', 'fastapi'} & set(sys.modules)\n"
    )
    # -S keeps this environment's packages out.
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    subprocess.run([sys.executable, "-S", "-c", path + check], check=True, cwd=tmp_path)

"""Python stubs of the contract, generated from `proto/` into a folder that is thrown away afterwards."""

import importlib
import sys
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]


def generate(folder: Path) -> SimpleNamespace:
    """Generates every proto file into `folder`; gives messages and stubs by the name of their file: `stubs.funnel`."""
    proto = ROOT / "proto"
    files = sorted(proto.rglob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    arguments = ["protoc", f"-I{proto}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main([*arguments, *map(str, files)]) != 0:
        raise RuntimeError("grpcio-tools could not generate stubs from proto/")
    sys.path.insert(0, str(folder))
    stubs = SimpleNamespace()
    for file in files:
        module = file.relative_to(proto).with_suffix("").as_posix().replace("/", ".")
        messages = importlib.import_module(f"{module}_pb2")
        services = importlib.import_module(f"{module}_pb2_grpc")
        members = {**vars(messages), **{name: value for name, value in vars(services).items() if name.endswith("Stub")}}
        setattr(stubs, file.stem, SimpleNamespace(**members))
    return stubs

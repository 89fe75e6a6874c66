"""What protoc has made of link.proto is what the file says now."""

from __future__ import annotations

import importlib.resources
import sys
from pathlib import Path

import anyio
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from lightactors.remote.grpc._v1 import link_pb2

PROTOS = Path(__file__).parents[2] / "protos"


async def test_generated_code_of_the_link_is_fresh(tmp_path: Path) -> None:
    out = tmp_path / "link.bin"
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    command = ["-I", str(PROTOS), "-I", str(well_known), f"--descriptor_set_out={out}", "lightactors/v1/link.proto"]
    await anyio.run_process([sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", *command])
    written = FileDescriptorSet.FromString(out.read_bytes()).file[0]
    generated = FileDescriptorProto.FromString(link_pb2.DESCRIPTOR.serialized_pb)
    for message in written.message_type:
        for field in message.field:
            field.ClearField("json_name")  # protoc adds it here, and leaves it out there
    assert generated == written, "link.proto has changed: run `tox -e protos`"

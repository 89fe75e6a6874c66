"""A client of `server.py` without lightactors: what `grpcio-tools` makes of the proto files, and no more."""

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpc_tools import protoc

HERE = Path(__file__).parent
PROTOS = (HERE.parents[1] / "protos" / "lightactors" / "v1" / "store.proto", HERE / "counter.proto")


def make_stubs(folder: str) -> None:
    """Do what `python -m grpc_tools.protoc` does in a build."""
    google = Path(protoc.__file__).parent / "_proto"
    for proto in PROTOS:
        arguments = [f"-I{proto.parent}", f"-I{google}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
        if protoc.main(["protoc", *arguments, proto.name]) != 0:
            raise SystemExit(f"{proto} does not compile")
    sys.path.insert(0, folder)


def run_a_rollout(channel: grpc.Channel, messages: Any, stubs: Any) -> None:
    """Put a task into the store's queue, claim it, report a span and success, and hear of its end."""
    store = stubs.StoreStub(channel)
    task = ParseDict({"question": "What is 6 x 7?", "choices": [41, 42]}, messages.EnqueueRolloutRequest().input)
    queued = store.EnqueueRollout(messages.EnqueueRolloutRequest(input=task, mode="train")).value

    claimed = store.DequeueRollout(messages.DequeueRolloutRequest(worker_id="python", timeout=5)).value
    question = claimed.input.struct_value.fields["question"].string_value
    print("claimed", question, "as attempt", claimed.attempt.sequence_id)

    span = messages.Span(
        rollout_id=claimed.rollout_id,
        attempt_id=claimed.attempt.attempt_id,
        sequence_id=1,
        trace_id="00000000000000000000000000000001",
        span_id="0000000000000001",
        name="answer",
    )
    span.attributes["tokens"].int_value = 12
    store.AddSpan(messages.AddSpanRequest(span=span))
    store.UpdateAttempt(
        messages.UpdateAttemptRequest(
            rollout_id=claimed.rollout_id, attempt_id=claimed.attempt.attempt_id, status="succeeded"
        )
    )

    wait = messages.WaitForRolloutsRequest(rollout_ids=[queued.rollout_id], timeout=5)
    (finished,) = store.WaitForRollouts(wait).value
    spans = store.QuerySpans(messages.QuerySpansRequest(rollout_id=queued.rollout_id)).value
    print(f"{finished.status}, with {spans[0].attributes['tokens'].int_value} tokens in span {spans[0].name!r}")


def count(channel: grpc.Channel, messages: Any, stubs: Any) -> None:
    """Call an actor: for an answer, a stream, an error, and in vain."""
    counter = stubs.CounterStub(channel)
    print("counted", counter.Add(messages.AddRequest(amount=2, by="python")).value.by)
    print("stream", [item.value.value for item in counter.CountTo(messages.CountToRequest(end=3))])

    try:
        counter.Add(messages.AddRequest(amount=10_000_000))
    except grpc.RpcError as error:
        reason = error_details_pb2.ErrorInfo()
        rpc_status.from_call(error).details[0].Unpack(reason)
        print("error", error.code().name, reason.reason)

    stream = counter.CountTo(messages.CountToRequest(end=1000))
    next(stream)
    stream.cancel()  # the handler ends at its next yield: see what the server prints

    try:
        counter.WaitForEver(messages.WaitForEverRequest(), timeout=0.3)
    except grpc.RpcError as error:
        print("deadline", error.code().name)


def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:4747"
    with tempfile.TemporaryDirectory() as folder, grpc.insecure_channel(address.removeprefix("grpc://")) as channel:
        make_stubs(folder)
        run_a_rollout(channel, import_module("store_pb2"), import_module("store_pb2_grpc"))
        count(channel, import_module("counter_pb2"), import_module("counter_pb2_grpc"))


if __name__ == "__main__":
    main()

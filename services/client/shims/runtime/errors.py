"""The errors of servers, made again from their statuses with protobuf alone."""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from safescale.core.errors import SafescaleError
from safescale.runtime.rebuilt import error_of_code, rebuilt

DOMAIN = "safescale"
DETAILS = "grpc-status-details-bin"

Field = descriptor_pb2.FieldDescriptorProto


def _made(name: str, fields: Iterable[tuple[str, int, int]]) -> Any:
    """Make a message of googleapis without depending on them: name, number and type of the fields that are read."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="safescale_client", syntax="proto3")
    message = file.message_type.add(name=name)
    for field, number, kind in fields:
        label = Field.LABEL_REPEATED if field in REPEATED else Field.LABEL_OPTIONAL
        made = message.field.add(name=field, number=number, type=kind, label=label)
        if kind == Field.TYPE_MESSAGE:
            made.type_name = f".safescale_client.{name}.Entry"
            entry = message.nested_type.add(name="Entry")
            for part, place in ENTRIES[name]:
                part_kind = Field.TYPE_BYTES if part == "value" and name == "Status" else Field.TYPE_STRING
                entry.field.add(name=part, number=place, type=part_kind, label=Field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"safescale_client.{name}"))


REPEATED = ("details", "metadata")
ENTRIES = {"Status": (("type_url", 1), ("value", 2)), "ErrorInfo": (("key", 1), ("value", 2))}
STATUS = _made("Status", [("message", 2, Field.TYPE_STRING), ("details", 3, Field.TYPE_MESSAGE)])
INFO = _made(
    "ErrorInfo",
    [("reason", 1, Field.TYPE_STRING), ("domain", 2, Field.TYPE_STRING), ("metadata", 3, Field.TYPE_MESSAGE)],
)


def from_rpc_error(error: grpc.aio.AioRpcError) -> SafescaleError:
    """Return the error that a server of ours sent; a transport failure becomes a ServiceUnavailableError."""
    for key, value in error.trailing_metadata() or ():
        if key != DETAILS:
            continue
        status = STATUS.FromString(value)
        for detail in status.details:
            if not detail.type_url.endswith("/google.rpc.ErrorInfo"):
                continue
            info = INFO.FromString(detail.value)
            if info.domain == DOMAIN:
                return rebuilt(info.reason, status.message, {entry.key: entry.value for entry in info.metadata})
    code = error.code()
    return error_of_code(code.name, error.details() or code.name)

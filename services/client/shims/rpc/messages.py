"""Messages and stubs made from descriptors, in a pool of their own."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from safescale.rpc.descriptors import FILES

POOL = descriptor_pool.DescriptorPool()
for _file in FILES:
    POOL.AddSerializedFile(_file)


def names_of(path: str) -> Mapping[str, Any]:
    """Return the contents of a generated module: the file's messages and enums, and the values of the enums."""
    file = POOL.FindFileByName(path)
    found: dict[str, Any] = {"DESCRIPTOR": file}
    for name, message in file.message_types_by_name.items():
        found[name] = message_factory.GetMessageClass(message)
    for enum in file.enum_types_by_name.values():
        found.update({value.name: value.number for value in enum.values})
    return found


def stub_of(path: str, name: str) -> type:
    """Return the stub of a service: a callable of a channel for each method."""
    service = POOL.FindFileByName(path).services_by_name[name]

    def connect(self: Any, channel: Any) -> None:
        for method in service.methods:
            streams = descriptor_pb2.MethodDescriptorProto()
            method.CopyToProto(streams)
            kind = "_".join(
                "stream" if many else "unary" for many in (streams.client_streaming, streams.server_streaming)
            )
            make = getattr(channel, kind)
            callable_ = make(
                f"/{service.full_name}/{method.name}",
                request_serializer=message_factory.GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, callable_)

    return type(f"{name}Stub", (), {"__init__": connect, "__doc__": f"Stub of {service.full_name}."})

"""Messages of the services as plain JSON values."""

from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def plain(message: Message) -> dict[str, Any]:
    """Every field of a message by its name: numbers as numbers, enums as short words, what is not set as None.

    Unlike the JSON form of protobuf, which writes 64-bit numbers as texts and leaves fields out.
    """
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        of_value = kind.fields_by_name["value"]
        return {key: _value(each, of_value) for key, each in sorted(value.items())}
    if field.is_repeated:
        return [_value(each, field) for each in value]
    return _value(value, field)


def _value(value: Any, field: Any) -> Any:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        # A newer service may know more words than we do.
        return enum_word(known.name, field.enum_type.name) if known else f"unknown_{value}"
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    return plain(value) if isinstance(value, Message) else value


def enum_word(name: str, enum: str) -> str:
    """Short word of an enum value: RUN_STATE_RUNNING of RunState is `running`."""
    prefix = "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(enum)).upper()
    return name.removeprefix(f"{prefix}_").lower()

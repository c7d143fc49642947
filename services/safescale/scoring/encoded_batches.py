"""Batches of answers whose questions stay encoded: callers send many answers to each question, all with its text.

To read a question takes longer than to score its answer. A batch is therefore read with a message that differs from
`ScoreAnswersRequest` in one field: `question` is bytes. Both look the same on the wire.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from safescale.rpc.scoring.v1 import scoring_pb2 as pb

PACKAGE = "safescale.scoring.encoded_batches"
BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES


class EncodedAnswer(Protocol):
    """An `AnswerInput` with its question as it was sent."""

    answer_id: str
    text: str
    question: bytes
    judge_model: str
    finish_reason: str
    reading: str


class EncodedBatch(Protocol):
    """A `ScoreAnswersRequest` of such answers."""

    batch_id: str
    answers: Sequence[EncodedAnswer]


def _batch_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="safescale/scoring/encoded_batches.proto", package=PACKAGE, syntax="proto3"
    )
    for descriptor in (pb.AnswerInput.DESCRIPTOR, pb.ScoreAnswersRequest.DESCRIPTOR):
        message = file.message_type.add()
        descriptor.CopyToProto(message)
        for field in message.field:
            if field.name == "question":
                field.type = BYTES
                field.ClearField("type_name")
            elif field.name == "answers":
                field.type_name = f".{PACKAGE}.{pb.AnswerInput.DESCRIPTOR.name}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{PACKAGE}.{pb.ScoreAnswersRequest.DESCRIPTOR.name}")
    )


_BATCH = _batch_class()


def read_batch(data: bytes) -> EncodedBatch:
    """Return the batch of an encoded `ScoreAnswersRequest`.

    Raises:
        google.protobuf.message.DecodeError: the bytes are none.

    """
    return cast(EncodedBatch, _BATCH.FromString(data))


def encoded_handler(score: Any) -> Any:
    """Return a handler of `ScoreAnswers` that reads batches this way."""
    return grpc.stream_stream_rpc_method_handler(score, read_batch, pb.ScoreAnswersResponse.SerializeToString)

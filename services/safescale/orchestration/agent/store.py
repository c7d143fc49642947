"""States of researches in the document store."""

from google.protobuf import json_format

from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.runtime.documents.port import DocumentStore, NewDocument

RESEARCH = "research"


class ResearchStore:
    """Researches by id. A write replaces: one process works on a research, each state follows from the one before."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents

    async def put(self, research: pb.Research) -> None:
        """Store a state durably.

        Raises:
            StorageError: it cannot be written.

        """
        body = json_format.MessageToDict(research, preserving_proto_field_name=True)
        await self._documents.put(NewDocument(RESEARCH, research.research_id, body))

    async def get(self, identifier: str) -> pb.Research | None:
        """Read a state; None when there is none."""
        document = await self._documents.get(RESEARCH, identifier)
        if document is None:
            return None
        return json_format.ParseDict(document.body, pb.Research(), ignore_unknown_fields=True)

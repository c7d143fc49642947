"""Names, mapping and settings of the indices that hold chunks in Elasticsearch: an index for each corpus."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from safescale.retrieval.index.port import CorpusKey
from safescale.retrieval.index.words import K1, B

VERSION = 1
"""Of mapping and settings. Raised when they change: corpora are then indexed anew from their articles and vectors."""

_NAME_PART = re.compile(r"[0-9a-z][0-9a-z_-]{0,99}")


def is_name_part(corpus_id: str) -> bool:
    """Return whether an id can be part of the name of an index: no pattern, no path, no capital."""
    return _NAME_PART.fullmatch(corpus_id) is not None


@dataclass(frozen=True, slots=True)
class IndexNames:
    """Names of the indices and aliases of corpora."""

    prefix: str

    def index(self, corpus_id: str) -> str:
        """Return the index, the name under which it is built."""
        return f"{self.prefix}-chunks-v{VERSION}-{corpus_id}"

    def any_index(self, corpus_id: str = "*") -> str:
        """Return the pattern of the indices of a corpus, or of all, of any version."""
        return f"{self.prefix}-chunks-v*-{corpus_id}"

    def complete(self, corpus_id: str) -> str:
        """Return the alias that searches use; it exists when the index is complete."""
        return f"{self.prefix}-chunks-{corpus_id}"

    def current(self, content_id: str) -> str:
        """Return the alias of the documents, whatever the embedder: the index that was completed last."""
        return f"{self.prefix}-chunks-of-{content_id}"


def id_of(chunk_id: str) -> str:
    """Return Elasticsearch's id of a chunk: a hash, since ids of documents may be as long as Elasticsearch's ids."""
    return hashlib.sha256(chunk_id.encode()).hexdigest()


def index_body(corpus: CorpusKey, replicas: int) -> dict[str, Any]:
    """Return settings and mapping of a corpus's index. One shard: BM25's statistics are those of a shard."""
    stored = {"index": False, "doc_values": False}
    properties = {
        "chunk_id": {"type": "keyword"},
        "document_id": {"type": "keyword", **stored},
        "title": {"type": "keyword", **stored},
        "text": {"type": "text", "index": False},
        "token_count": {"type": "integer", **stored},
        # Cut into words by us, as in every index; the analyzer only takes them apart at the blanks.
        "words": {"type": "text", "analyzer": "whitespace", "similarity": "words", "index_options": "freqs"},
        # Flat: every vector is compared, so that the ranking is exact and the same wherever it is made.
        "vector": {
            "type": "dense_vector",
            "dims": corpus.dimension,
            "similarity": "dot_product",
            "index_options": {"type": "flat"},
        },
    }
    return {
        "settings": {
            "index": {
                "number_of_shards": 1,
                "number_of_replicas": replicas,
                # Written once and then refreshed; nothing to look for in between.
                "refresh_interval": -1,
                # Equal vectors at the end of a ranking come in stored order: that is then the order of chunk ids.
                "sort": {"field": "chunk_id", "order": "asc"},
                "similarity": {"words": {"type": "BM25", "k1": K1, "b": B}},
            }
        },
        "mappings": {
            "dynamic": "strict",
            "_meta": {
                "corpus_id": corpus.corpus_id,
                "content_id": corpus.content_id,
                "embedder_revision": corpus.embedder_revision,
                "chunk_count": corpus.chunk_count,
            },
            # Both follow from the text.
            "_source": {"excludes": ["words", "vector"]},
            "properties": properties,
        },
    }

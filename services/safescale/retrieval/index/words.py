"""Words for BM25, the same in every index."""

import re
import unicodedata

WORD = re.compile(r"\w+")

K1 = 1.5
B = 0.75
"""Parameters of BM25 (Lucene's variant)."""

MAX_QUERY_WORDS = 1000
"""Words of a query that are searched for; Elasticsearch takes 1,024 clauses at least."""


def words(text: str) -> list[str]:
    """Return the words of a text for BM25: compatibility-normalised, case-folded; no stemming, no stop words."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def query_words(query: str) -> list[str]:
    """Return the words of a query that are searched for, in order, repeated as often as they occur."""
    return words(query)[:MAX_QUERY_WORDS]

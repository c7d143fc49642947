import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safescale.core.errors import CorpusError
from safescale.core.inputs.corpus import CorpusDocument, CorpusReader, check_corpus, corpus_hash, load_corpus
from safescale.core.inputs.records import Source


def source(*records: object, name: str = "corpus.jsonl") -> Source:
    return Source(name, "\n".join(json.dumps(record) for record in records).encode())


def test_documents_load_in_their_order() -> None:
    first = {"id": "b", "title": "Pneumothorax", "text": "Air in the pleural space. "}
    documents = load_corpus([source(first), source({"id": "a", "text": "x", "url": "ignored"}, name="more")])
    assert documents == (
        CorpusDocument("b", "Pneumothorax", "Air in the pleural space."),
        CorpusDocument("a", "", "x"),
    )


def test_every_defect_is_listed() -> None:
    found = source(
        {"id": "a", "title": "t", "text": " "},
        {"id": "b", "title": 1, "text": "x"},
        {"title": "t", "text": "x"},
        {"id": "c", "text": "x"},
        {"id": "c", "text": "y"},
        [],
    )
    documents, defects = check_corpus([found])
    assert documents == (CorpusDocument("c", "", "x"),)
    assert [str(defect) for defect in defects] == [
        'corpus.jsonl:1: a text = " "; expected a non-empty text',
        "corpus.jsonl:2: b title = 1; expected a text",
        "corpus.jsonl:3: id = missing; expected a non-empty text",
        'corpus.jsonl:5: c id = "c"; expected an id of its own, since corpus.jsonl:4 has this one',
        "corpus.jsonl:6: []; expected one JSON object per line",
    ]
    with pytest.raises(CorpusError, match="and 4 more defects") as caught:
        load_corpus([found])
    assert caught.value.defects == defects


def test_an_empty_corpus_is_a_defect() -> None:
    with pytest.raises(CorpusError, match="no documents; expected at least one document"):
        load_corpus([Source("empty", b"\n")])


def test_the_hash_depends_on_content_not_on_order() -> None:
    one, two = CorpusDocument("1", "t", "x"), CorpusDocument("2", "t", "y")
    assert corpus_hash([one, two]) == corpus_hash([two, one])
    assert corpus_hash([one]) != corpus_hash([CorpusDocument("1", "tx", "")])
    assert len(corpus_hash([])) == 64


@given(st.binary(max_size=100))
def test_any_bytes_give_documents_or_defects(data: bytes) -> None:
    documents, defects = check_corpus([Source("f", data)])
    assert documents or defects


LINES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"id": st.sampled_from("abc"), "text": st.text(max_size=3)}).map(
            lambda record: json.dumps(record).encode()
        ),
        st.binary(max_size=6).map(lambda raw: raw.replace(b"\n", b" ").removeprefix(b"\xef\xbb\xbf")),
    ),
    max_size=8,
)


@given(LINES, st.data())
def test_a_corpus_in_parts_is_read_as_the_whole(lines: list[bytes], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(lines)))
    # UTF-16 marks are told apart at the begin of a file only.
    if any(line[:2] in (b"\xff\xfe", b"\xfe\xff") for line in lines):
        return
    whole, parts = CorpusReader(), CorpusReader()
    expected = whole.read(Source("c", b"\n".join(lines)))
    found = parts.read(Source("c", b"\n".join(lines[:cut])))
    found += parts.read(Source("c", b"\n".join(lines[cut:])), first_line=cut + 1)
    assert found == expected
    assert parts.document_count == whole.document_count
    places = [(d.line, d.field, d.expected) for d in whole.defects]
    assert sorted(places, key=str) == sorted([(d.line, d.field, d.expected) for d in parts.defects], key=str)

import hypothesis.strategies as st
from hypothesis import given

from safescale.runtime.http.sse import SseParser

LINES = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.binary(max_size=6).filter(lambda b: b"\n" not in b and b"\r" not in b)),
        st.tuples(st.sampled_from(["comment", "event", "end"]), st.just(b"")),
    ),
    max_size=20,
)


@given(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.data())
def test_events_are_the_same_however_the_bytes_are_cut(lines, line_end, data) -> None:
    raw, expected, open_lines = b"", [], []
    for kind, value in [*lines, ("end", b"")]:
        raw += {"data": b"data: " + value, "comment": b": hello", "event": b"event: x", "end": b""}[kind] + line_end
        if kind == "data":
            open_lines.append(value)
        elif kind == "end" and open_lines:
            expected.append(b"\n".join(open_lines))
            open_lines = []
    parser = SseParser()
    found: list[bytes] = []
    position = 0
    while position < len(raw):
        size = data.draw(st.integers(1, len(raw) - position))
        found += parser.feed(raw[position : position + size])
        position += size
    assert found + parser.end() == expected


@given(st.lists(st.binary(max_size=30)))
def test_random_bytes_are_no_failure(chunks) -> None:
    parser = SseParser()
    for chunk in chunks:
        parser.feed(chunk)
    parser.end()


def test_data_without_a_blank_and_without_a_colon() -> None:
    assert SseParser().feed(b"data:1\n\ndata\n\ndata:  2\n\n") == [b"1", b"", b" 2"]

import pytest

from safescale.cli.cache import BYTES, SECONDS, _number, shown_bytes
from safescale.core.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("30d", SECONDS, 2_592_000), ("1.5h", SECONDS, 5400), ("90 m", SECONDS, 5400), ("7s", SECONDS, 7),
        ("0", BYTES, 0), ("1024", BYTES, 1024), ("2GiB", BYTES, 2 * 1024**3), ("1.5 KiB", BYTES, 1536),
    ],
)  # fmt: skip
def test_numbers_have_units(text, units, value) -> None:
    assert _number("--option", text, units) == value


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("30", SECONDS), ("0d", SECONDS), ("-1d", SECONDS), ("d", SECONDS), ("1y", SECONDS), ("1e9d", SECONDS),
        ("2GB", BYTES), ("-1", BYTES), ("nan", BYTES), ("", BYTES), ("1,000", BYTES),
    ],
)  # fmt: skip
def test_what_is_no_number_with_a_unit_is_refused_by_name(text, units) -> None:
    with pytest.raises(InvalidInputError, match=r"--option is .*; expected a number with one of the units"):
        _number("--option", text, units)


@pytest.mark.parametrize(("size", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (4 * 1024**3, "4.0 GiB")])
def test_bytes_are_shown_in_the_unit_that_fits(size, shown) -> None:
    assert shown_bytes(size) == shown

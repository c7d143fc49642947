from datetime import UTC, datetime
from email.utils import format_datetime

import hypothesis.strategies as st
import pytest
from hypothesis import given

from safescale.runtime.http.retry_after import MAX_SECONDS, retry_after

# Sunday, 6 November 1994, 08:49:37 GMT: the date of the examples in RFC 9110, section 5.6.7.
EXAMPLE = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()
FORMS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y")
# Two digits of a year name one of this century in every reading of them.
DATES = st.datetimes(datetime(2000, 1, 1), datetime(2067, 12, 31))


@pytest.mark.parametrize(
    "value", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_the_three_forms_of_a_date_are_read_in_gmt_wherever_this_runs(value, zone, monkeypatch) -> None:
    monkeypatch.setenv("TZ", zone)
    assert retry_after({"Retry-After": value}, EXAMPLE - 90) == 90


@given(DATES, st.integers(-10_000, 10_000), st.sampled_from(FORMS))
def test_a_date_is_the_seconds_until_it_within_the_bounds(date, seconds, form) -> None:
    date = date.replace(microsecond=0, tzinfo=UTC)
    wanted = min(max(float(seconds), 0.0), MAX_SECONDS)
    assert retry_after({"retry-after": date.strftime(form)}, date.timestamp() - seconds) == wanted
    assert retry_after({"RETRY-AFTER": format_datetime(date, usegmt=True)}, date.timestamp() - seconds) == wanted


@given(st.integers(0, 999_999_999))
def test_a_number_is_seconds_within_the_bounds(seconds) -> None:
    assert retry_after({"Retry-After": f" {seconds} "}) == min(seconds, MAX_SECONDS)


@given(st.text(max_size=40))
def test_any_other_text_is_none_and_no_failure(value) -> None:
    seconds = retry_after({"Retry-After": value})
    assert seconds is None or 0 <= seconds <= MAX_SECONDS


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0), ("1.5", 1.5), ("99999", MAX_SECONDS), ("", None), ("-1", None), ("+5", None), ("soon", None),
        ("1e3", None), ("nan", None), ("٣", None), ("1 2", None), ("Sun, 99 Nov 1994 08:49:37 GMT", None),
    ],
)  # fmt: skip
def test_what_is_a_number_of_seconds_and_what_is_not(value, seconds) -> None:
    assert retry_after({"Retry-After": value}) == seconds


def test_without_the_header_there_is_no_wait() -> None:
    assert retry_after({"Content-Type": "text/html"}) is None

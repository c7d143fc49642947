"""The published analysis' numbers on the synthetic answer set, and ours on the same files, for comparison."""

import csv
import gzip
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet

DATA = Path(__file__).parent / "data"
EXACT = 1e-9

Row = dict[str, Any]


def expected_json(name: str) -> list[Row]:
    """The rows of a published JSON file."""
    rows: list[Row] = json.loads((DATA / "expected" / name).read_bytes())
    return rows


def expected_csv(name: str) -> list[Row]:
    """The rows of a published csv file, gzipped or not, all values as texts."""
    path = DATA / "expected" / name
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(data.decode().splitlines()))


def keyed(folder: Path, table: str, *columns: str) -> dict[tuple[Any, ...], Row]:
    """The rows of one of our parquet tables by the values of some columns, which are unique."""
    rows = pyarrow.parquet.read_table(folder / f"{table}.parquet").to_pylist()
    found = {tuple(row[column] for column in columns): row for row in rows}
    assert len(found) == len(rows)
    return found


def same(ours: float | None, theirs: float | str | None, tolerance: float = EXACT) -> bool:
    """Whether both are absent, or both numbers that differ by no more than the tolerance."""
    if theirs is None or theirs == "":
        return ours is None
    return ours is not None and math.isclose(ours, float(theirs), rel_tol=EXACT, abs_tol=tolerance)


def rounded(digits: int) -> float:
    """How far a number that was rounded to so many digits may be from the true one."""
    return 0.5 * 10**-digits + EXACT


def pretty_numbers(text: str) -> list[float]:
    """The mean, standard deviation and interval of a text such as '84.9 ± 4.6 [75.0, 93.3]'."""
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def unequal(pairs: Iterable[tuple[Any, str, Any, Any, bool]]) -> list[str]:
    """A line for each number that is not reproduced: where, which, ours, theirs."""
    return [f"{where} {what}: {ours!r} is not {theirs!r}" for where, what, ours, theirs, equal in pairs if not equal]

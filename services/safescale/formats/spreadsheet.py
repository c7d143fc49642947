r"""Texts in CSV files, so that no spreadsheet takes one for a formula.

A text that begins like a formula, also behind blanks, quotation marks or apostrophes, gets an apostrophe before it; so
does one that begins with a tab or a line end. Reading takes the apostrophe off again. Numbers are written as they are.
"""

import re
from collections.abc import Mapping
from typing import Any

_LIKE_A_FORMULA = re.compile(r"""[\s'"]*[=+\-@\uff0b\uff0d\uff1d\uff20]|'*[\t\r\n]""")


def guarded(text: str) -> str:
    """Return the text as it is written to a CSV file."""
    return f"'{text}" if _LIKE_A_FORMULA.match(text) else text


def guarded_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its texts as they are written to a CSV file; all other values as they are."""
    return {name: guarded(value) if isinstance(value, str) else value for name, value in row.items()}


def unguarded(cell: str) -> str:
    """Return the text of a cell that `guarded` made."""
    return cell[1:] if cell.startswith("'") and _LIKE_A_FORMULA.match(cell, 1) else cell

"""Tables of results to csv and parquet files, and model lists from csv or yaml files."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from safescale.core.errors import Defect, InvalidInputError
from safescale.core.inputs.records import shown
from safescale.core.safety.tables.scaling import ModelInfo
from safescale.core.tables import Column, Table
from safescale.formats.spreadsheet import guarded
from safescale.runtime.files.atomic import Staged
from safescale.runtime.files.reading import parse_yaml, read_source

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", flags=re.ASCII)


def write_tables(tables: Iterable[Table], folder: Path) -> list[Path]:
    """Write each table to `<name>.csv` and `<name>.parquet`; a number that is not defined is an empty field, or null.

    All or none of them. Raises StorageError where the folder or a file cannot be written.
    """
    written = []
    with Staged() as staged:
        for table in tables:
            # Parquet has texts as they are; most tables have none that changes in a CSV.
            plain = _arrow(table, guard=False)
            forms = {"csv": _arrow(table, guard=True) if _changes(table) else plain, "parquet": plain}
            for form, write in (("csv", pyarrow.csv.write_csv), ("parquet", pyarrow.parquet.write_table)):
                written.append(folder / f"{table.name}.{form}")
                whole = pa.BufferOutputStream()
                write(forms[form], whole)
                with staged.open(written[-1]) as out:
                    out.write(whole.getvalue())
    return written


def _changes(table: Table) -> bool:
    texts = (text for column in table.columns.values() if column.dtype == object for text in set(column.tolist()))
    return any(guarded(text) != text for text in texts)


def _arrow(table: Table, *, guard: bool) -> pa.Table:
    return pa.table({name: _array(column, guard=guard) for name, column in table.columns.items()})


def _array(column: Column, *, guard: bool) -> pa.Array:
    """Return a column as an arrow array, NaN as null; from buffers: `pyarrow.array` takes a second to import pandas."""
    length = len(column)
    if column.dtype == object:
        values = column.tolist()
        # Most columns repeat few names.
        encoded = {text: (guarded(text) if guard else text).encode() for text in set(values)}
        texts = [encoded[text] for text in values]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        return pa.Array.from_buffers(pa.string(), length, [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))])
    if column.dtype == np.bool_:
        return pa.Array.from_buffers(pa.bool_(), length, [None, _bits(column)])
    held = _bits(~np.isnan(column)) if column.dtype == np.float64 else None
    kind = pa.float64() if column.dtype == np.float64 else pa.int64()
    return pa.Array.from_buffers(kind, length, [held, pa.py_buffer(np.ascontiguousarray(column))])


def _bits(flags: Column) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def read_models(path: Path) -> dict[str, ModelInfo]:
    """Families and sizes of models: a csv with the columns name, family, parameters_b, or a yaml list of such objects.

    Raises InvalidInputError that lists every defect.
    """
    source = read_source(path)
    if path.suffix in {".yaml", ".yml", ".json"}:
        loaded = parse_yaml(source)
        entries = loaded.get("models") if isinstance(loaded, dict) else loaded
        numbered = list(enumerate(entries, start=1)) if isinstance(entries, list) else []
        place = "entry"
    else:
        reader = csv.DictReader(io.StringIO(source.data.decode("utf-8-sig", "replace")))
        numbered = [(reader.line_num, row) for row in reader]
        place = ""
    defects: list[Defect] = []
    models: dict[str, ModelInfo] = {}
    for number, entry in numbered:
        line, item = (None, f"{place} {number}") if place else (number, None)
        found = _model(entry, Defect(str(path), line, item, None, "", ""), defects)
        if found is not None and found[0] in models:
            defects.append(Defect(str(path), line, item, "name", shown(found[0]), "each model once"))
        elif found is not None:
            models[found[0]] = found[1]
    if not numbered:
        defects.append(Defect(str(path), None, None, None, "no models", "rows with name, family and parameters_b"))
    if defects:
        more = f" (and {len(defects) - 1} more)" if len(defects) > 1 else ""
        raise InvalidInputError(f"{defects[0]}{more}", defects=defects)
    return models


def _model(entry: Any, at: Defect, defects: list[Defect]) -> tuple[str, ModelInfo] | None:
    before = len(defects)
    if not isinstance(entry, Mapping):
        defects.append(
            Defect(at.file, at.line, at.item, None, shown(entry), "an object with name, family, parameters_b")
        )
        return None
    texts = {}
    for field, other in (("name", "id"), ("family", "family")):
        value = entry.get(field, entry.get(other))
        texts[field] = value.strip() if isinstance(value, str) else ""
        if not texts[field]:
            defects.append(Defect(at.file, at.line, at.item, field, shown(value), "a non-empty text"))
    value = entry.get("parameters_b")
    # A cell that is empty, and a key that is left out: a csv without the column has a mistake in its header.
    unknown = value.strip() == "" if isinstance(value, str) else value is None and at.line is None
    # Only a csv file has texts for numbers; in YAML a text is what was not written as a number, such as 070.
    readable = at.line is not None and isinstance(value, str) and _NUMBER.fullmatch(value.strip())
    number = not isinstance(value, bool) and isinstance(value, (int, float))
    size = float(value) if number or readable else math.nan  # type: ignore[arg-type]
    if not unknown and not (size > 0 and math.isfinite(size)):
        expected = "billions of parameters, a number above 0, or nothing where the size is not known"
        defects.append(Defect(at.file, at.line, at.item, "parameters_b", shown(value), expected))
    return None if len(defects) > before else (texts["name"], ModelInfo(texts["family"], None if unknown else size))

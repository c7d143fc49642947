from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from safescale.core.errors import InvalidInputError, StorageError
from safescale.core.safety.tables.scaling import ModelInfo
from safescale.core.tables import table_of_rows
from safescale.formats.tables import read_models, write_tables

SCHEMA = {"name": str, "n": int, "share": float, "safe": bool}
ROWS = [['ä, "b"', 1, 0.1, True], ["", -2, np.nan, False], ["c", 3, 1 / 3, True]]


def test_tables_are_the_same_from_csv_and_parquet(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    written = write_tables([table_of_rows("t", SCHEMA, ROWS), table_of_rows("empty", SCHEMA, [])], folder)
    assert [path.name for path in written] == ["t.csv", "t.parquet", "empty.csv", "empty.parquet"]
    for frame in (pd.read_csv(folder / "t.csv", keep_default_na=False, na_values={"share": [""]}),
                  pd.read_parquet(folder / "t.parquet")):  # fmt: skip
        assert list(frame.columns) == list(SCHEMA)
        assert frame["name"].tolist() == ['ä, "b"', "", "c"]
        assert frame["n"].tolist() == [1, -2, 3]
        assert frame["safe"].tolist() == [True, False, True]
        assert frame["share"].isna().tolist() == [False, True, False]
        assert frame["share"][2] == 1 / 3
    assert list(pd.read_csv(folder / "empty.csv").columns) == list(SCHEMA)
    assert len(pd.read_parquet(folder / "empty.parquet")) == 0


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_tables([table_of_rows("t", SCHEMA, ROWS)], tmp_path / "file" / "out")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "name,family,parameters_b,window\na,X,1.5,9\nb,Y,70,9\n"),
        ("m.yaml", "models:\n- {id: a, family: X, parameters_b: 1.5}\n- {id: b, family: Y, parameters_b: 70}\n"),
        ("m.yml", "- {name: a, family: X, parameters_b: 1.5}\n- {name: b, family: Y, parameters_b: 70}\n"),
    ],
)
def test_model_lists(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_models(tmp_path / name) == {"a": ModelInfo("X", 1.5), "b": ModelInfo("Y", 70.0)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "name,family,parameters_b\na,X,\nb,Y,70\n"),
        ("m.yaml", "models:\n- {id: a, family: X}\n- {id: b, family: Y, parameters_b: 70}\n"),
        ("m.yml", "- {name: a, family: X, parameters_b: null}\n- {name: b, family: Y, parameters_b: 70}\n"),
    ],
)
def test_a_size_may_be_unknown(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_models(tmp_path / name) == {"a": ModelInfo("X", None), "b": ModelInfo("Y", 70.0)}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "name,family,parameters_b\na,X,big\n", r"m\.csv:2: parameters_b = .*billions of parameters"),
        ("m.csv", "name,family,parameters_b\na,X,-1\n", r"m\.csv:2: parameters_b"),
        ("m.csv", "name,family,parameters_b\n,X,1\n", r"m\.csv:2: name = .*non-empty"),
        ("m.csv", "name,family\na,\n", r"m\.csv:2: family = .*\(and 1 more\)"),
        ("m.csv", "", "no models"),
        ("m.yaml", "a: 1\n", "no models"),
        ("m.yaml", "- {name: a, family: X, parameters_b: true}\n", "entry 1 parameters_b"),
        ("m.yaml", "- 7\n", r"entry 1 = 7; expected an object"),
    ],
)
def test_defects_of_model_lists(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        read_models(tmp_path / name)


def test_texts_of_a_csv_are_no_formulas_and_those_of_parquet_are_as_they_are(tmp_path: Path) -> None:
    rows = [["=SUM(A1)", -1, -0.5, True], ["\t+x", 2, 1.0, False]]
    write_tables([table_of_rows("t", SCHEMA, rows)], tmp_path)
    text = (tmp_path / "t.csv").read_text()
    assert '"\'=SUM(A1)",-1,-0.5,true' in text
    assert '"\'\t+x"' in text
    assert pd.read_parquet(tmp_path / "t.parquet")["name"].tolist() == ["=SUM(A1)", "\t+x"]


@pytest.mark.parametrize("size", ["070", "'70'", "1_000", "yes", "0x10"])
def test_a_size_that_is_a_text_in_yaml_is_refused(tmp_path: Path, size: str) -> None:
    (tmp_path / "m.yaml").write_text(f"- {{name: a, family: X, parameters_b: {size}}}\n")
    with pytest.raises(InvalidInputError, match="entry 1 parameters_b"):
        read_models(tmp_path / "m.yaml")


def test_a_model_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("name,family,parameters_b\na,X,1\na,X,7\n")
    with pytest.raises(InvalidInputError, match=r"m\.csv:3: name = \"a\"; expected each model once"):
        read_models(tmp_path / "m.csv")

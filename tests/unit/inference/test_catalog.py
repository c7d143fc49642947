import pytest
import yaml

from safescale.core.errors import InvalidInputError, NotFoundError, SpecError
from safescale.inference.catalog import load_catalog

ROW = {
    "id": "own", "family": "Own", "parameters_b": 1.5, "window_tokens": 4096, "instruct": True, "backend": "embedded",
    "license": "MIT", "embedded": {"path": "weights/own.gguf"},
}  # fmt: skip


SERVED = {
    "id": "far", "family": "Far", "parameters_b": 8, "window_tokens": 8192, "instruct": True, "backend": "openai",
    "license": "MIT", "endpoint": {"urls": ["http://gpu-1:8000"]},
}  # fmt: skip


def write(path, *rows):
    path.write_text(yaml.safe_dump({"models": list(rows)}))
    return path


def test_the_shipped_catalog_has_a_default_and_an_opt_in_base_model() -> None:
    rows = load_catalog(None).rows
    assert rows["smollm2-135m-instruct"].instruct
    assert rows["smollm2-135m-instruct"].served_tokens == 8192
    assert not rows["gemma-3-270m"].instruct
    assert rows["gemma-3-270m"].served_tokens < rows["gemma-3-270m"].window_tokens
    assert {row.auto_formulation for row in rows.values()} == {"cloze"}


def test_own_rows_are_added_and_replace_shipped_ones(tmp_path) -> None:
    path = write(tmp_path / "own.yaml", ROW, {**ROW, "id": "gemma-3-270m", "family": "Mine"})
    rows = load_catalog(path).rows
    assert set(rows) == {"own", "gemma-3-270m", "smollm2-135m-instruct"}
    assert rows["gemma-3-270m"].family == "Mine"
    assert rows["own"].embedded.path == str(tmp_path / "weights/own.gguf")
    assert rows["own"].auto_formulation == "letter"


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"parameters_b": 0}, "parameters_b", "greater than 0"),
        ({"window_token": 1}, "window_token", "did you mean 'window_tokens'"),
        ({"backend": "vllm"}, "backend", "this version has: embedded, tgi, openai"),
        ({"backend": "tgi"}, None, "needs the field endpoint"),
        ({"reasoning": "thinks"}, "reasoning", "'think', or another of think, "),
        ({"family": None}, "family", "valid string"),
        ({"revision": "main"}, None, "SHA-256"),
        ({"embedded": {}}, "embedded", "either files of packages or a path"),
        ({"embedded": None}, None, "needs the field embedded"),
        ({"embedded": {"path": "x", "n_ctx": 8192}}, None, "over window_tokens 4096"),
    ],
)
def test_a_defect_names_file_row_and_field(tmp_path, changes, field, expected) -> None:
    path = write(tmp_path / "own.yaml", ROW, {**ROW, "id": "bad", **changes})
    with pytest.raises(SpecError) as caught:
        load_catalog(path)
    (defect,) = caught.value.defects
    assert defect.file == str(path)
    assert defect.item == "row 2 (bad)"
    assert defect.field == field
    assert expected in defect.expected
    assert str(path) in caught.value.message


def test_a_served_row_names_its_servers_and_what_they_call_the_model(tmp_path) -> None:
    endpoint = {
        "urls": ["http://GPU-1:8000/", "https://gpu-2/llm/"], "concurrency": 4, "retry_for_s": 30,
        "api_key_file": "keys/far", "ca_file": "/etc/ca.pem",
    }  # fmt: skip
    rows = load_catalog(write(tmp_path / "own.yaml", {**SERVED, "endpoint": endpoint}, {**SERVED, "id": "near"})).rows
    far = rows["far"]
    assert far.endpoint.urls == ("http://gpu-1:8000", "https://gpu-2/llm")
    assert (far.endpoint.concurrency, far.endpoint.retry_for_s, far.endpoint.flavour) == (4, 30.0, "auto")
    assert far.endpoint.api_key_file == str(tmp_path / "keys/far")
    assert far.endpoint.ca_file == "/etc/ca.pem"
    assert (far.served_model, far.served_tokens) == ("far", 8192)
    assert (rows["near"].endpoint.concurrency, rows["near"].endpoint.api_key_file) == (16, None)


@pytest.mark.parametrize(
    ("backend", "named", "served"), [("openai", None, "far"), ("tgi", None, "tgi"), ("tgi", "lora", "lora")]
)
def test_the_name_at_the_server(tmp_path, backend, named, served) -> None:
    endpoint = {"urls": ["http://gpu-1:8000"], **({"served_model": named} if named else {})}
    row = load_catalog(write(tmp_path / "own.yaml", {**SERVED, "backend": backend, "endpoint": endpoint})).rows["far"]
    assert row.served_model == served


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"endpoint": None}, None, "needs the field endpoint"),
        ({"embedded": {"path": "x"}}, None, "has no field embedded"),
        ({"backend": "embedded", "embedded": {"path": "x"}}, None, "has no endpoint"),
        ({"backend": "tgi", "endpoint": {"urls": ["http://a"], "flavour": "vllm"}}, None, "is for backend openai"),
        ({"endpoint": {"urls": []}}, "endpoint.urls", "1 to 64 servers"),
        ({"endpoint": {"urls": ["http://a", "http://A/"]}}, "endpoint.urls", "http://a is there twice"),
        ({"endpoint": {"urls": ["gpu:8000"]}}, "endpoint.urls.0", "the scheme is 'gpu'"),
        ({"endpoint": {"urls": ["ftp://gpu"]}}, "endpoint.urls.0", "http(s)://host:port"),
        ({"endpoint": {"urls": ["http://"]}}, "endpoint.urls.0", "http(s)://host:port"),
        ({"endpoint": {"urls": ["http://a:0"]}}, "endpoint.urls.0", "http(s)://host:port"),
        ({"endpoint": {"urls": ["http://a:99999"]}}, "endpoint.urls.0", "Port out of range"),
        ({"endpoint": {"urls": ["http://a b"]}}, "endpoint.urls.0", "without blanks"),
        ({"endpoint": {"urls": ["http://me:pw@a"]}}, "endpoint.urls.0", "belongs into api_key_file"),
        ({"endpoint": {"urls": ["http://a/v1/"]}}, "endpoint.urls.0", "without /v1"),
        ({"endpoint": {"urls": ["http://a?x=1"]}}, "endpoint.urls.0", "without a query"),
        ({"endpoint": {"urls": ["http://a"], "concurrency": 0}}, "endpoint.concurrency", "greater than or equal to 1"),
        ({"endpoint": {"urls": ["http://a"], "flavour": "ollama"}}, "endpoint.flavour", "'vllm'"),
        ({"endpoint": {"urls": ["http://a"], "concurency": 3}}, "endpoint.concurency", "did you mean 'concurrency'"),
    ],
)
def test_a_defect_of_an_endpoint_names_its_field_and_shows_no_secret(tmp_path, changes, field, expected) -> None:
    path = write(tmp_path / "own.yaml", {**SERVED, **changes})
    with pytest.raises(SpecError) as caught:
        load_catalog(path)
    (defect,) = caught.value.defects
    assert (defect.item, defect.field) == ("row 1 (far)", field)
    assert expected in defect.expected
    assert "pw" not in caught.value.message


def test_all_defects_are_told_at_once(tmp_path) -> None:
    path = write(tmp_path / "own.yaml", ROW, ROW, {"id": "x"}, "text")
    with pytest.raises(SpecError) as caught:
        load_catalog(path)
    items = [(defect.item, defect.field) for defect in caught.value.defects]
    assert ("row 2 (own)", "id") in items
    assert ("row 3 (x)", "license") in items
    assert ("row 4", None) in items


@pytest.mark.parametrize("text", ["", "[]", "models: 3", "models: []\nmore: 1"])
def test_a_file_of_another_shape_is_refused(tmp_path, text) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match="one key, models"):
        load_catalog(path)


def test_a_missing_file_is_the_users_mistake(tmp_path) -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        load_catalog(tmp_path / "absent.yaml")


def test_an_unknown_model_gets_a_hint() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'gemma-3-270m'"):
        load_catalog(None).row("gemma3-270m")


@pytest.mark.parametrize("given", [{}, {"parameters_b": None}])
def test_a_size_may_be_unknown(tmp_path, given) -> None:
    row = {name: value for name, value in ROW.items() if name != "parameters_b"} | given
    found = load_catalog(write(tmp_path / "own.yaml", row)).rows["own"]
    assert (found.parameters_b, found.auto_formulation) == (None, "letter")


@pytest.mark.parametrize("size", [-1, float("inf"), float("nan"), "large", True])
def test_a_size_that_is_none_is_refused(tmp_path, size) -> None:
    with pytest.raises(SpecError, match="parameters_b"):
        load_catalog(write(tmp_path / "own.yaml", {**ROW, "parameters_b": size}))

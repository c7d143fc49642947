"""A dashboard drawn from a Prometheus whose answers are scripted."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.prometheus_queries import check, dashboards, panels

END = 1_767_225_600
LABELS = {"condition": "top_1", "model": "m", "le": "1.0"}
Answer = Callable[[str], tuple[int, object]]


@pytest.fixture(scope="module")
def render(root: Path, load_script: Callable[[Path], ModuleType]) -> ModuleType:
    return load_script(root / "deploy/grafana/render.py")


class Prometheus:
    """Answers each query from a script, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.answer: Answer = lambda query: (200, success([series(LABELS)]))
        self.url = ""


def series(labels: dict[str, str], *values: str) -> dict[str, Any]:
    found = values or ("0.5", "1.5", "NaN")
    return {"metric": labels, "values": [[END - 60 * (len(found) - i), value] for i, value in enumerate(found)]}


def success(result: list[dict[str, Any]]) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    scripted = Prometheus()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            assert path == "/api/v1/query_range"
            scripted.asked.append({name: values[0] for name, values in query.items()})
            status, body = scripted.answer(query["query"][0])
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode() if isinstance(body, str) else json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    scripted.url = f"http://127.0.0.1:{server.server_port}"
    yield scripted
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_latency_dashboard_becomes_a_picture(
    render: ModuleType, prometheus: Prometheus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "latency.png"
    arguments = ["--range", "6h", "--end", "2026-01-01T00:00:00Z", "--set", "model=m.*", "--out", str(out)]
    assert render.main([prometheus.url, *arguments]) == 0
    png = out.read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert capsys.readouterr().out == f"{out}: {len(png)} bytes\n"
    targets = [target for panel in panels(dashboards()["latency"]) for target in panel["targets"]]
    assert len(prometheus.asked) == len(targets)
    for asked in prometheus.asked:
        check(asked["query"])
        assert "$" not in asked["query"]
        assert (float(asked["start"]), float(asked["end"])) == (END - 6 * 3600, END)
        assert int(asked["step"]) == 90
    assert any('{model=~"m.*", condition=~".*"}[105s]' in asked["query"] for asked in prometheus.asked)


def test_lines_carry_the_names_of_the_legend(render: ModuleType) -> None:
    found = render.points([series(LABELS), series({}, "0")], "{{condition}} p95", "Time")
    assert found == [
        {"time": 1000 * (END - 180), "series": "top_1 p95", "value": 0.5},
        {"time": 1000 * (END - 120), "series": "top_1 p95", "value": 1.5},
        {"time": 1000 * (END - 60), "series": "p95", "value": 0.0},
    ]
    assert {row["series"] for row in render.points([series({}, "0")], "{{condition}}", "Time")} == {"Time"}


def test_a_heat_map_shows_what_falls_into_each_bucket(render: ModuleType) -> None:
    buckets = [series({"le": le}, count) for le, count in (("+Inf", "9"), ("10.0", "7"), ("2.5", "7"), ("0.5", "3"))]
    found = render.cells([*buckets, series({}, "0")], 60)
    assert [(row["bound"], row["count"]) for row in found] == [("0.5", 3), ("2.5", 4), ("inf", 2)]
    assert {(row["time"], row["end"]) for row in found} == {(1000 * (END - 120), 1000 * (END - 60))}


def test_a_panel_without_data_says_so(render: ModuleType) -> None:
    [panel] = [panel for panel in panels(dashboards()["latency"]) if panel["title"] == "Judge"]
    span = render.Span(END - 60, END)
    assert render.drawn(panel, [], span).to_dict()["title"] == "Judge (no data)"
    row = {"time": 1000 * END, "series": "x", "value": 1}
    assert render.drawn(panel, [row], span).to_dict()["title"] == "Judge"


@pytest.mark.parametrize("name", dashboards())
def test_every_dashboard_can_be_drawn(
    render: ModuleType, prometheus: Prometheus, tmp_path: Path, root: Path, name: str
) -> None:
    out = tmp_path / "p.png"
    file = root / "charts/safescale/dashboards" / f"{name}.json"
    arguments = ["--end", "2026-01-01T00:00", "--dashboard", str(file), "--out", str(out)]
    assert render.main([prometheus.url, *arguments]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((400, {"status": "error", "errorType": "bad_data", "error": "parse error"}), "bad_data: parse error"),
        ((200, "<html>hello</html>"), "something else than Prometheus"),
        ((200, {"status": "success"}), "something else than Prometheus"),
        ((404, "no"), "HTTP 404"),
        ((200, success([])), "has no series for 'Latency per condition'"),
        ((200, success([series({}, "0")])), "has no series for 'Latency per condition'"),
    ],
)
def test_what_prometheus_cannot_tell_is_said_in_a_sentence(
    render: ModuleType, prometheus: Prometheus, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    answer: tuple[int, object], words: str,
) -> None:  # fmt: skip
    prometheus.answer = lambda query: answer
    out = tmp_path / "p.png"
    assert render.main([prometheus.url, "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {prometheus.url} ")
    assert words in told
    assert not out.exists()


def test_a_prometheus_that_is_away_and_a_place_that_is_not_there(
    render: ModuleType, prometheus: Prometheus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render.main(["http://127.0.0.1:1", "--out", str(tmp_path / "p.png")]) == 1
    assert "http://127.0.0.1:1 does not answer" in capsys.readouterr().err
    assert render.main([prometheus.url, "--out", str(tmp_path / "no" / "p.png")]) == 1
    assert "p.png cannot be written: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prometheus:9090"], "'prometheus:9090' is no address; expected http://HOST:PORT"),
        (["http://p", "--range", "long"], "'long' is no length of time; expected such as 90m"),
        (["http://p", "--range", "0h"], "'0h' is no length of time"),
        (["http://p", "--end", "noon"], "'noon' is no time; expected such as 2026-"),
        (["http://p", "--set", "model"], "'model' chooses nothing; expected NAME=REGEX"),
        (["http://p", "--set", "color=red"], "no variable 'color'; expected model, condition"),
        (["http://p", "--dashboard", "/none.json"], "/none.json: No such file or directory"),
        (["http://p", "--dashboard", __file__], "holds no dashboard"),
    ],
)
def test_mistakes_are_named(
    render: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        render.main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err

"""A run that is traced, as a real collector sees it."""

import json
from pathlib import Path

from tests.support.containers import free_port
from tests.support.fakes.varied_model import JUDGE, MODEL
from tests.support.otlp_receiver import attributes, receiving

from safescale.runtime.tracing import ALLOWED_ATTRIBUTES

EXAMPLES = Path(__file__).parents[2] / "examples"
# A few of the documents: each is embedded anew.
CORPUS = "".join((EXAMPLES / "corpus" / "radiology-mini.jsonl").read_text().splitlines(keepends=True)[:12])


def _spec(cli, name: str, **changes: object) -> str:
    few: dict[str, object] = {"conditions": ["zero_shot"], "questions": {"limit": 1}, "regimes": {"greedy": True}}
    return cli.spec(name=name, **{**few, **changes})


def _topics(trace) -> set[tuple[str, str]]:
    found = [attributes(span) for span in trace if span.name == "handle"]
    return {(str(one["group"]), str(one["topic"]).removeprefix("safescale.").partition(".v1")[0]) for one in found}


def test_one_trace_follows_a_cell_through_all_services(light) -> None:
    with receiving() as receiver:
        light.environment["SAFESCALE_OTLP_ENDPOINT"] = receiver.endpoint
        spec = _spec(
            light,
            "traced",
            corpus=str(light.write("corpus.jsonl", CORPUS)),
            conditions=["zero_shot", "top_1"],
            judge=JUDGE,
        )
        done = light("run", spec, "--no-report")
        assert done.returncode == 0, done.stdout + done.stderr
    cells = [trace for trace in receiver.traces().values() if ("scoring", "generation.completed") in _topics(trace)]
    # One question under two conditions.
    assert len(cells) == 2
    [found] = [trace for trace in cells if any(span.name == "retrieval" for span in trace)]
    assert _topics(found) >= {
        ("retrieval", "context.requested"),
        ("orchestration", "context.built"),
        ("inference", "generation.requested"),
        ("scoring", "generation.completed"),
        ("orchestration", "verdict.recorded"),
    }
    names = {span.name for span in found}
    assert names >= {"publish", "handle", "retrieval", "model", "call"}
    for trace in cells:
        ids = {span.span_id for span in trace}
        roots = [span for span in trace if not span.parent_span_id]
        assert [span.name for span in roots] == ["publish"]
        assert [span.name for span in trace if span.parent_span_id and span.parent_span_id not in ids] == []
        [model] = [one for span in trace if (one := attributes(span)) and span.name == "model"][:1]
        assert model["model"] == MODEL
        assert model["condition"] in ("zero_shot", "top_1")
        assert model["question_id"]
    assert receiver.services == {"all"}
    _tells_no_text(receiver.spans)


def _tells_no_text(spans) -> None:
    told = {name for span in spans for name in attributes(span)}
    assert told <= ALLOWED_ATTRIBUTES
    everything = "".join(str(span) for span in spans)
    questions = (EXAMPLES / "benchmark" / "radiology-mini.jsonl").read_text().splitlines()
    for line in [*questions, *CORPUS.splitlines()]:
        for value in json.loads(line).values():
            if isinstance(value, str) and len(value) > 40:
                assert value[:40] not in everything


def test_a_collector_that_is_away_harms_nothing(light) -> None:
    light.environment["SAFESCALE_OTLP_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    done = light("run", _spec(light, "untold"), "--no-report")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    told = [line for line in lines if "collector of traces" in line["event"]]
    assert [line["service"] for line in told] == ["tracing"]


def test_a_ratio_of_nothing_traces_nothing(light) -> None:
    with receiving() as receiver:
        light.environment.update(SAFESCALE_OTLP_ENDPOINT=receiver.endpoint, SAFESCALE_TRACE_RATIO="0")
        done = light("run", _spec(light, "unsampled"), "--no-report")
        assert done.returncode == 0, done.stdout + done.stderr
    assert receiver.spans == []

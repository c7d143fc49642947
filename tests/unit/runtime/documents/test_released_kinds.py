"""What version 0.1.0 stored in Elasticsearch is read as it is: no index has to be copied before services start."""

import base64
from dataclasses import replace

import orjson

from safescale.runtime.documents.elastic_kinds import KINDS, Naming, light_of, with_light

LIGHT_OF_VERDICTS = (
    "model", "condition", "question_id", "attempt", "failure", "formulation", "greedy", "samples", "latency_s", "cost",
)  # fmt: skip
"""Light fields of verdicts in version 0.1.0."""

VERDICT = next(kind for kind in KINDS if kind.name == "verdict")


def test_indices_of_the_released_version_are_those_of_this_one() -> None:
    released = {f"safescale-{name}-v1" for name in ("run", "verdict", "review", "gate", "generation-cell", "audit")}
    assert released <= {Naming("safescale").index(kind) for kind in KINDS}


def test_a_column_of_a_released_verdict_is_read_and_lacks_what_its_body_lacks() -> None:
    body = dict.fromkeys(LIGHT_OF_VERDICTS, "")
    stored = with_light(replace(VERDICT, light=LIGHT_OF_VERDICTS), {"key": "k", "group": "g", "body": body})
    light = light_of(VERDICT, {"fields": {"light": [stored["light"]]}})
    assert light == body
    assert "greedy_by" not in light


def test_a_column_of_this_version_holds_what_a_released_program_reads() -> None:
    body = dict.fromkeys(VERDICT.light, "")
    stored = with_light(VERDICT, {"key": "k", "group": "g", "body": body})
    version, light = orjson.loads(base64.b64decode(stored["light"]))
    assert version == 1
    assert set(LIGHT_OF_VERDICTS) <= set(light)

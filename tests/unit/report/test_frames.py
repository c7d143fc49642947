import io

import pandas as pd

from safescale.formats.verdicts import answer_rows, verdict_record
from safescale.report.frames import csv_bytes, frame_of
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

LONG_SEED = 2**53 + 1


def verdict() -> pb.Verdict:
    return pb.Verdict(
        cell=common_pb2.CellKey(run_id="r", model="m", condition="c", question_id="=q1"),
        formulation=common_pb2.FORMULATION_LETTER,
        greedy=pb.Reading(letter="A", text="=HYPERLINK()"),
        samples=[pb.Reading(letter="B", text="-B", seed=LONG_SEED + index) for index in range(2)],
        usage=common_pb2.Usage(prompt_tokens=3, prompt_tokens_sent=9),
        greedy_asked=True,
        samples_asked=2,
    )


def test_seeds_and_indices_are_whole_numbers_in_every_form() -> None:
    frame = frame_of(answer_rows(verdict()))
    assert frame["seed"].tolist()[1:] == [LONG_SEED, LONG_SEED + 1]
    header, _, first, _ = csv_bytes(frame).decode().splitlines()
    row = dict(zip(header.split(","), first.split(","), strict=True))
    assert (row["sample_index"], row["seed"]) == ("0", str(LONG_SEED))
    back = pd.read_parquet(io.BytesIO(frame.to_parquet(index=False)))
    assert [int(seed) for seed in back["seed"][1:]] == [LONG_SEED, LONG_SEED + 1]
    record = verdict_record(verdict())
    assert [sample["seed"] for sample in record["samples"]] == [LONG_SEED, LONG_SEED + 1]
    assert record["usage"]["prompt_tokens_sent"] == 9


def test_texts_are_no_formulas_and_numbers_stay_numbers() -> None:
    frame = frame_of([{"name": "=1+1", "n": -1, "share": -0.5, "flag": True, "absent": None}] * 2)
    assert csv_bytes(frame).decode().splitlines() == [
        "name,n,share,flag,absent",
        "'=1+1,-1,-0.5,True,",
        "'=1+1,-1,-0.5,True,",
    ]
    text = csv_bytes(frame_of(answer_rows(verdict()))).decode()
    assert "'=q1" in text
    assert "'=HYPERLINK()" in text
    assert ",'-B" in text


def test_no_rows_are_an_empty_table() -> None:
    assert frame_of([]).empty

from google.protobuf.timestamp_pb2 import Timestamp

from safescale.gateway.messages import enum_word, plain
from safescale.rpc.common.v1 import common_pb2
from safescale.rpc.inference.v1 import inference_pb2
from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb
from safescale.rpc.scoring.v1 import scoring_pb2


def test_numbers_stay_numbers_and_enums_become_words() -> None:
    run = pb.Run(
        run_id="demo-1",
        state=pb.RUN_STATE_COMPLETED,
        created_at=Timestamp(seconds=1_700_000_000),
        manifest=pb.Manifest(spec=pb.RunSpec(seed=2**40, models=["m"])),
        skips=[pb.Skip(model="m", condition="context_max", reason="no room")],
    )
    found = plain(run)
    assert (found["state"], found["created_at"]) == ("completed", "2023-11-14T22:13:20Z")
    assert found["manifest"]["spec"]["seed"] == 2**40
    assert found["skips"] == [{"model": "m", "condition": "context_max", "question_id": "", "reason": "no room"}]
    # What is not set is there, as nothing.
    assert (found["ended_at"], found["failure"], found["attempt"]) == (None, None, 0)


def test_maps_and_optional_fields() -> None:
    verdict = scoring_pb2.Verdict(option_scores={"B": -1.5, "A": -2.0}, formulation=common_pb2.FORMULATION_CLOZE)
    verdict.timings.greedy_s = 0.0
    found = plain(verdict)
    assert list(found["option_scores"].items()) == [("A", -2.0), ("B", -1.5)]
    assert found["formulation"] == "cloze"
    assert found["timings"]["greedy_s"] == 0.0
    assert found["timings"]["samples_s"] is None
    assert found["majority_letter"] is None


def test_an_enum_value_of_a_newer_service_is_no_error() -> None:
    model = inference_pb2.Model.FromString(inference_pb2.Model(id="m").SerializeToString() + b"\x48\x63")
    assert plain(model)["auto_formulation"] == "unknown_99"


def test_words_of_enums() -> None:
    assert enum_word("RESEARCH_STEP_DONE", "ResearchStep") == "done"
    assert enum_word("RUN_STATE_UNSPECIFIED", "RunState") == "unspecified"

from xml.etree import ElementTree

from safescale.formats.junit import junit_xml
from safescale.rpc.scoring.v1 import scoring_pb2 as pb


def make_judgement() -> pb.EvaluatePolicyResponse:
    results = [
        pb.RequirementResult(
            metric="accuracy", model="m", condition="c", regime="greedy", direction="min", limit=0.9, value=0.95,
            bound="ci_low", decisive=0.91, passed=True, verdict=pb.POLICY_VERDICT_PASS,
        ),
        pb.RequirementResult(
            metric="high_risk_error_rate", model="<m>", condition="c", regime="greedy", direction="max", limit=0.05,
            bound="ci_high", reason="no measurement & nothing", verdict=pb.POLICY_VERDICT_FAIL,
        ),
        pb.RequirementResult(
            metric="high_risk_error_rate", model="m", condition="c", regime="greedy", direction="max", limit=0.05,
            value=0.0, bound="ci_high", decisive=0.109, low=0.0, high=0.109, n=32, n_unread=1,
            interval="clopper_pearson", reason="too few", questions_more=40, verdict=pb.POLICY_VERDICT_INSUFFICIENT,
            slice="subspecialty", slice_value="neuro",
        ),
        pb.RequirementResult(metric="failed_cells", direction="max", value=2, bound="estimate", reason="2 cells"),
    ]  # fmt: skip
    return pb.EvaluatePolicyResponse(
        results=results, verdict=pb.POLICY_VERDICT_FAIL, confidence=0.95, policy_sha256="ab", notes=["Read this."]
    )


def parsed(judged: pb.EvaluatePolicyResponse, name: str = "p") -> ElementTree.Element:
    return ElementTree.fromstring(junit_xml(judged, name).split("\n", 1)[1])


def test_what_failed_and_what_is_insufficient_are_told_apart() -> None:
    suite = parsed(make_judgement())
    assert (suite.attrib["tests"], suite.attrib["failures"], suite.attrib["errors"]) == ("4", "3", "0")
    cases = suite.findall("testcase")
    failures = [case.find("failure") for case in cases]
    assert [None if each is None else each.attrib["type"] for each in failures] == [
        None, "requirement", "insufficient", "requirement",
    ]  # fmt: skip
    assert failures[1] is not None
    assert failures[1].attrib["message"] == "no measurement & nothing"
    assert failures[2] is not None
    assert failures[2].text == (
        "estimate 0 %, interval 0–10.9 %, decided by high end, 32 questions, 1 unread, exact interval"
    )
    assert [case.attrib["classname"] for case in cases] == ["m.c.greedy", "<m>.c.greedy", "m.c.greedy", "run"]
    # The names of old: what compares runs by them goes on.
    assert cases[0].attrib["name"] == "accuracy ≥ 0.9"
    assert cases[2].attrib["name"] == "high_risk_error_rate ≤ 0.05 (subspecialty neuro)"


def test_the_verdict_and_its_notes_are_properties() -> None:
    properties = [(each.attrib["name"], each.attrib["value"]) for each in parsed(make_judgement()).iter("property")]
    assert properties == [
        ("verdict", "FAIL"), ("confidence", "0.95"), ("policy_sha256", "ab"), ("note", "Read this."),
    ]  # fmt: skip


def test_it_is_xml_whatever_a_model_is_called() -> None:
    judged = make_judgement()
    judged.results[1].model, judged.results[1].reason = "m\x1b\x00", "no \ufffe\x0b"
    suite = parsed(judged, "p\x08")
    assert suite.findall("testcase")[1].attrib["classname"] == "m\\x1b\\x00.c.greedy"
    assert suite.attrib["name"] == "safescale gate p\\x08"

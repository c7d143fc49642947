"""A judgement by a policy as JUnit XML: a test case for each requirement at each place."""

from xml.etree import ElementTree

from safescale.core.decisions.policy import Verdict
from safescale.core.inputs.text import visible
from safescale.formats.gate_words import counted, decides, demand, interval, number
from safescale.rpc.policies import verdict_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

FAILURE_TYPES = {Verdict.FAIL: "requirement", Verdict.INSUFFICIENT: "insufficient"}


def junit_xml(response: pb.EvaluatePolicyResponse, name: str) -> str:
    """Return the results as JUnit XML; what is not passed is a failure, its type says which kind."""
    failed = sum(verdict_of(result) is not Verdict.PASS for result in response.results)
    suite = ElementTree.Element(
        "testsuite", name=f"safescale gate {name}", tests=str(len(response.results)), failures=str(failed), errors="0"
    )
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(response):
        ElementTree.SubElement(properties, "property", name=key, value=value)
    for result in response.results:
        _case(suite, result)
    for element in suite.iter():
        # XML has no form for control characters: a reader would refuse the file.
        element.attrib.update({key: visible(text) for key, text in element.attrib.items()})
        element.text = visible(element.text) if element.text else element.text
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _properties(response: pb.EvaluatePolicyResponse) -> list[tuple[str, str]]:
    found = [
        ("verdict", verdict_of(response).value.upper()),
        ("confidence", f"{response.confidence:g}" if response.confidence else ""),
        ("policy_sha256", response.policy_sha256),
        ("registered_sha256", response.registered_sha256),
        *(("note", note) for note in response.notes),
    ]
    return [(key, value) for key, value in found if value]


def _case(suite: ElementTree.Element, result: pb.RequirementResult) -> None:
    place = f"{result.model}.{result.condition}.{result.regime}"
    part = f" ({result.slice} {result.slice_value})" if result.slice_value else ""
    # What keeps a run from passing any policy is of the run and not of a model.
    case = ElementTree.SubElement(
        suite, "testcase", classname="run" if place == ".." else place, name=f"{demand(result)}{part}"
    )
    kind = FAILURE_TYPES.get(verdict_of(result))
    if kind is not None:
        failure = ElementTree.SubElement(case, "failure", message=result.reason, type=kind)
        said = f"estimate {number(result, 'value')}, interval {interval(result)}, decided by {decides(result)}"
        failure.text = ", ".join(each for each in (said, counted(result)) if each)

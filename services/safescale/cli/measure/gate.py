"""`safescale gate`: does a run meet a policy?"""

from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from safescale.cli.measure.results import fetch_run
from safescale.cli.runner import run_async
from safescale.cli.session import session
from safescale.cli.terminal.text import terminal
from safescale.core.decisions.policy_file import parse_policy
from safescale.core.inputs.text import visible
from safescale.core.safety.metrics import METRIC_NAMES
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.files.atomic import write_text
from safescale.runtime.files.reading import parse_yaml, read_source
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings

EVALUATE_DEADLINE_S = 600.0


def gate(
    run: Annotated[str, typer.Argument(help="Run id, a unique prefix of it, or latest.", metavar="RUN")],
    policy: Annotated[Path, typer.Option(help="Policy (YAML).")],
    junit: Annotated[Path | None, typer.Option(help="Write the results as JUnit XML too.")] = None,
) -> None:
    """Judge a run by a policy. Exit code 0 when every requirement holds and the run is complete, else 1."""
    raise typer.Exit(run_async(_gate(load_settings(), run, policy, junit)))


async def _gate(settings: Settings, run: str, policy: Path, junit: Path | None) -> int:
    text = checked_policy(policy)
    async with session(settings) as client:
        # Named once: `latest` may be another run a moment later.
        run_id = (await fetch_run(client, run)).run_id
        with rpc_errors():
            response = await client.scoring.EvaluatePolicy(
                pb.EvaluatePolicyRequest(run_id=run_id, policy=text), timeout=EVALUATE_DEADLINE_S
            )
    if not response.results:
        # An answer that judges nothing is no judgement, whatever it says.
        response.passed = False
        response.results.add(metric="requirements", direction="min", limit=1, reason="no requirement was judged")
    terminal().print(requirement_table(response, f"{policy.name} on run {run_id}"))
    if junit is not None:
        write_text(junit, junit_xml(response, policy.stem))
    failed = sum(not result.passed for result in response.results)
    if response.passed:
        typer.echo(f"PASSED: all {len(response.results)} requirements hold.")
        return 0
    typer.echo(f"FAILED: {failed} of {len(response.results)} requirements do not hold.")
    return 1


def checked_policy(path: Path) -> str:
    """Return the text of a policy file, checked here so that defects name the file.

    Raises:
        SpecError: it is no policy; every defect is named.

    """
    source = read_source(path)
    parse_policy(parse_yaml(source), source.name, METRIC_NAMES)
    return source.data.decode("utf-8-sig")


def _value(result: pb.RequirementResult, field: str) -> str:
    return f"{getattr(result, field):.4g}" if result.HasField(field) else "—"  # type: ignore[arg-type]


def _demand(result: pb.RequirementResult) -> str:
    return f"{result.metric} {'≤' if result.direction == 'max' else '≥'} {result.limit:g}"


def requirement_table(response: pb.EvaluatePolicyResponse, title: str) -> Table:
    """Return each requirement and where it was judged; estimate, the number that decides, verdict."""
    table = Table(title=f"Policy {title}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("requirement", overflow="fold")
    for heading in ("estimate", "decides", "result"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in response.results:
        where = " / ".join(part for part in (result.model, result.condition, result.regime) if part)
        head = Text(_demand(result), style="bold")
        if where:
            head.append(f"\n{where}", style="not bold dim")
        if not result.passed and (not result.HasField("decisive") or not result.model):
            head.append(f"\n{result.reason}", style="not bold red")
        verdict = Text("pass", style="green") if result.passed else Text("FAIL", style="bold red")
        table.add_row(head, _value(result, "value"), f"{result.bound} {_value(result, 'decisive')}", verdict)
    return table


def junit_xml(response: pb.EvaluatePolicyResponse, name: str) -> str:
    """Return the results as JUnit XML: a test case for each requirement on each row."""
    failed = sum(not result.passed for result in response.results)
    suite = ElementTree.Element(
        "testsuite", name=f"safescale gate {name}", tests=str(len(response.results)), failures=str(failed), errors="0"
    )
    for result in response.results:
        place = f"{result.model}.{result.condition}.{result.regime}"
        # What keeps a run from passing any policy is of the run and not of a model.
        case = ElementTree.SubElement(
            suite, "testcase", classname="run" if place == ".." else place, name=_demand(result)
        )
        if not result.passed:
            failure = ElementTree.SubElement(case, "failure", message=result.reason, type="requirement")
            failure.text = f"estimate {_value(result, 'value')}, {result.bound} {_value(result, 'decisive')}"
    for element in suite.iter():
        # XML has no form for control characters: a reader would refuse the file.
        element.attrib.update({key: visible(text) for key, text in element.attrib.items()})
        element.text = visible(element.text) if element.text else element.text
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"

"""`safescale gate`: does a run meet a policy?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from safescale.cli.measure.results import fetch_run
from safescale.cli.runner import run_async
from safescale.cli.session import Client, session
from safescale.cli.terminal.gate_view import requirement_table
from safescale.cli.terminal.text import say, terminal
from safescale.core.decisions.policy import Verdict
from safescale.core.decisions.policy_file import parse_policy
from safescale.core.errors import InvalidInputError
from safescale.core.safety.metrics import METRIC_NAMES
from safescale.formats.gate_words import summary
from safescale.formats.junit import junit_xml
from safescale.rpc.orchestration.v1 import orchestration_pb2
from safescale.rpc.policies import verdict_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.files.atomic import write_text
from safescale.runtime.files.reading import parse_yaml, read_source
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings

EVALUATE_DEADLINE_S = 600.0

EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INSUFFICIENT: 3}


def gate(
    run: Annotated[str, typer.Argument(help="Run id, a unique prefix of it, or latest.", metavar="RUN")],
    policy: Annotated[
        Path | None, typer.Option(help="Policy (YAML). Without it the one that the run's spec registered.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the results as JUnit XML too.")] = None,
    baseline: Annotated[
        str,
        typer.Option(help="Run that the policy compares with; without it the last of the series that passed."),
    ] = "",
) -> None:
    """Judge a run by a policy: PASS, FAIL, or INSUFFICIENT where the run shows neither.

    Exit code 0 when every requirement is shown to hold and the run is complete, 1 when one does not hold, 2 for a
    mistake, 3 when none fails and the run does not show all of them.
    """
    raise typer.Exit(run_async(_gate(load_settings(), (run, baseline), policy, junit)))


async def _gate(settings: Settings, runs: tuple[str, str], policy: Path | None, junit: Path | None) -> int:
    text = checked_policy(policy) if policy is not None else ""
    async with session(settings) as client:
        # Named once: `latest` may be another run a moment later.
        found = await fetch_run(client, runs[0])
        response = await judged(client, found, text, Baseline(runs[1]))
    return show_judgement(response, (found.run_id, policy), junit)


def show_judgement(response: pb.EvaluatePolicyResponse, of: tuple[str, Path | None], junit: Path | None = None) -> int:
    """Print a judgement of a run by a policy file, or by the registered one; return the exit code of its verdict."""
    run_id, policy = of
    if not response.results:
        # An answer that judges nothing is no judgement, whatever it says.
        response.passed = False
        response.results.add(metric="requirements", direction="min", limit=1, reason="no requirement was judged")
    name = policy.name if policy is not None else response.policy_name or "registered"
    terminal().print(requirement_table(response, f"{name} on run {run_id}"))
    if junit is not None:
        write_text(junit, junit_xml(response, policy.stem if policy is not None else name))
    for note in response.notes:
        say(note)
    say(summary(response))
    return EXIT_CODES[verdict_of(response)]


@dataclass(frozen=True)
class Baseline:
    """The run that a policy compares with, empty for the last of the series that passed; models where they differ."""

    run: str = ""
    models: tuple[str, str] = ("", "")


async def judged(
    client: Client, run: orchestration_pb2.Run, text: str, baseline: Baseline | None = None
) -> pb.EvaluatePolicyResponse:
    """Return the judgement of a run by the text of a policy; by the one that it registered where there is no text.

    Raises:
        InvalidInputError: there is no text, and the run has registered none.

    """
    registered = run.manifest.spec.policy
    if not text and not registered.text:
        why = "its spec registers none"
        if registered.sha256:
            why = f"it registered {registered.name or 'one'} ({registered.sha256[:12]}) without its text"
        raise InvalidInputError(f"run {run.run_id} has no policy of its own, {why}; name one: --policy POLICY.yaml")
    # With its text, so that a scoring service that knows no registered policies judges by it too.
    against = baseline or Baseline()
    request = pb.EvaluatePolicyRequest(
        run_id=run.run_id,
        policy=text or registered.text,
        baseline_run_id=against.run,
        candidate_model=against.models[0],
        baseline_model=against.models[1],
    )
    with rpc_errors():
        return await client.scoring.EvaluatePolicy(request, timeout=EVALUATE_DEADLINE_S)


def checked_policy(path: Path) -> str:
    """Return the text of a policy file, checked here so that defects name the file.

    Raises:
        SpecError: it is no policy; every defect is named.

    """
    source = read_source(path)
    parse_policy(parse_yaml(source), source.name, METRIC_NAMES)
    return source.data.decode("utf-8-sig")

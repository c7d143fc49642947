"""A judgement by a policy, and what a policy can decide, on a terminal."""

from rich import box
from rich.table import Table
from rich.text import Text

from safescale.core.decisions.policy import Verdict
from safescale.formats.gate_words import counted, decides, demand_shown, interval, number, place
from safescale.rpc.policies import verdict_of
from safescale.rpc.scoring.v1 import scoring_pb2 as pb

STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INSUFFICIENT: "bold yellow"}


def requirement_table(response: pb.EvaluatePolicyResponse, title: str) -> Table:
    """Return each requirement and where it was judged: estimate, interval, what decides, verdict and why."""
    confidence = f" (confidence {100 * response.confidence:g} %)" if response.confidence else ""
    table = Table(title=f"Policy {title}{confidence}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("requirement", overflow="fold")
    for heading in ("estimate", "interval", "decides", "result"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in response.results:
        verdict = verdict_of(result)
        head = Text(demand_shown(result), style="bold")
        for line in (place(result), counted(result)):
            if line:
                head.append(f"\n{line}", style="not bold dim")
        if result.reason:
            head.append(f"\n{result.reason}", style=f"not bold {STYLES[verdict].removeprefix('bold ')}")
        table.add_row(
            head, number(result, "value"), interval(result), decides(result),
            Text(verdict.value.upper(), style=STYLES[verdict]),
        )  # fmt: skip
    return table


def plan_lines(plan: pb.PlanPolicyResponse, title: str) -> list[Text]:
    """Return what a policy can decide by the questions planned, a line or two each."""
    stuck = sum(not each.decidable for each in plan.requirements)
    total = len(plan.requirements)
    said = f"{stuck} of {total} requirements cannot be decided" if stuck else f"all {total} requirements can be decided"
    head = f"Policy       {title}: {said} (confidence {100 * plan.confidence:g} %)"
    lines = [Text(head, style="yellow" if stuck else "")]
    for each in plan.requirements:
        text = f"             {planned_place(each)}: {each.sentence}"
        lines.append(Text(text, style="" if each.decidable else "yellow"))
    return lines


def planned_place(planned: pb.PlannedRequirement) -> str:
    """Return what is demanded and where, as far as the policy says."""
    shown = demand_shown(
        pb.RequirementResult(
            metric=planned.metric, direction=planned.direction, limit=planned.limit, model=planned.model
        )
    )
    where = [name for name in (planned.model, planned.condition, planned.regime) if name not in {"", "*"}]
    part = f"{planned.slice} {planned.slice_value}".strip()
    return " / ".join([shown, *where, *([part] if part else [])])

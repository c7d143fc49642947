"""`safescale reviews`: answers that a person should read."""

from typing import Annotated

import typer

from safescale.cli.measure.results import PAGE_SIZE, fetch_run, pages, run_metrics
from safescale.cli.runner import run_async
from safescale.cli.session import session
from safescale.cli.terminal.audit_view import corrected_table
from safescale.cli.terminal.text import say, terminal
from safescale.rpc.scoring.v1 import scoring_pb2 as pb
from safescale.runtime.grpc.channels import rpc_errors
from safescale.runtime.settings import Settings, load_settings

AUDIT = "AUDIT"
"""Reason of the review of an answer that was drawn at random."""

AUDIT_DEADLINE_S = 600.0
TEXT_SHOWN = 200
"""Characters of an answer that a list shows."""

app = typer.Typer(help="List and settle hand checks.", no_args_is_help=True)


@app.command(name="list")
def list_reviews(
    run: Annotated[str, typer.Argument(help="Run id, a unique prefix of it, or latest; all runs when left out.")] = "",
    settled: Annotated[bool, typer.Option("--settled", help="Settled ones too.")] = False,
) -> None:
    """List answers that wait for a hand check: no answer, parser and judge disagree, or drawn for an audit."""
    run_async(_list(load_settings(), run, settled))


async def _list(settings: Settings, run: str, settled: bool) -> None:
    request = pb.ListReviewsRequest(run_id=run, page_size=PAGE_SIZE, include_resolved=settled)
    async with session(settings) as client:
        found = [review async for page in pages(client.scoring.ListReviews, request) for review in page.reviews]
    if not found:
        typer.echo("Nothing waits for a hand check.")
        return
    console = terminal()
    for review in found:
        console.print(_shown(review), soft_wrap=True, highlight=False, markup=False)


def _shown(review: pb.Review) -> str:
    cell = review.cell
    which = f"sample {review.sample_index}" if review.HasField("sample_index") else "greedy"
    readings = f"parser {review.parsed_letter or 'none'}, judge {review.judge_letter or 'none'}"
    if review.reason == AUDIT and not review.resolved:
        readings = "what parser and judge read is hidden until it is settled"
    lines = [
        review.review_id,
        f"  {cell.model} / {cell.condition} / {cell.question_id}, {which}: {review.reason} ({readings})",
        f"  {' '.join(review.text.split())[:TEXT_SHOWN]!r}",
    ]
    if review.resolved:
        lines.append(f"  settled as {review.resolved_letter or 'no answer'} by {review.reviewer}")
    return "\n".join(lines)


@app.command()
def audit(
    run: Annotated[str, typer.Argument(help="Run id, a unique prefix of it, or latest.", metavar="RUN")],
    sample: Annotated[
        int, typer.Option(min=0, help="Answers to draw; 0 draws none and shows the audit that the run has.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the draw.")] = 0,
) -> None:
    """Draw answers at random for people to read, and show the rates corrected by what they read.

    Answers that parser or judge accepted are among them. Their letters are hidden until a person has settled them.
    """
    run_async(_audit(load_settings(), run, sample, seed))


def _answers(count: int) -> str:
    return f"{count:,} answer{'s' if count != 1 else ''}"


async def _audit(settings: Settings, run: str, sample: int, seed: int) -> None:
    async with session(settings) as client:
        # Named once: `latest` may be another run a moment later.
        run_id = (await fetch_run(client, run)).run_id
        with rpc_errors():
            if sample:
                request = pb.StartAuditRequest(run_id=run_id, sample=sample, seed=seed)
                found = (await client.scoring.StartAudit(request, timeout=AUDIT_DEADLINE_S)).audit
            else:
                response = await client.scoring.GetAudit(pb.GetAuditRequest(run_id=run_id), timeout=AUDIT_DEADLINE_S)
                if not response.HasField("audit"):
                    typer.echo(f"Run {run_id} has no audit; --sample 50 draws one.")
                    return
                found = response.audit
        rows = (await run_metrics(client, run_id)).rows if found.complete else []
    drawn = f"Audit of run {run_id}: {_answers(found.sample)} drawn by seed {found.seed}"
    if not found.complete:
        say(
            f"{drawn}, {found.settled:,} settled. Rates are corrected once all are (`safescale reviews list {run_id}`)."
        )
        return
    say(f"{drawn}, all settled. Persons read {found.disagreements:,} otherwise than the machine.")
    terminal().print(corrected_table(rows))


@app.command()
def resolve(
    review: Annotated[str, typer.Argument(help="Identifier, as `safescale reviews list` prints it.")],
    reviewer: Annotated[str, typer.Option(help="Who settles it; kept in the audit log.")],
    letter: Annotated[str | None, typer.Option(help="Letter that the answer selects; leave out for no answer.")] = None,
    note: Annotated[str, typer.Option(help="Note, kept with the review.")] = "",
) -> None:
    """Settle a hand check: the letter counts in metrics, reports and exports from then on."""
    run_async(_resolve(load_settings(), review, letter, reviewer, note))


async def _resolve(settings: Settings, review: str, letter: str | None, reviewer: str, note: str) -> None:
    request = pb.ResolveReviewRequest(review_id=review, reviewer=reviewer, note=note)
    # An empty one, as of a variable that is not set, is no letter: the service refuses it.
    if letter is not None:
        request.letter = letter
    async with session(settings) as client:
        with rpc_errors():
            await client.scoring.ResolveReview(request)
    typer.echo(f"Settled as {letter or 'no answer'}.")

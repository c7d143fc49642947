"""A research on a terminal: its state and its content."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from safescale.rpc.orchestration.v1 import orchestration_pb2 as pb


def step_name(step: int) -> str:
    """Step in lower case."""
    return pb.ResearchStep.Name(step).removeprefix("RESEARCH_STEP_").lower()  # type: ignore[arg-type]


def progress_line(research: pb.Research) -> str:
    """One line: the step, how far it is, calls, tokens and seconds so far."""
    modules = research.modules
    parts = [step_name(research.step)]
    if research.step == pb.RESEARCH_STEP_SEARCH:
        parts.append(f"{sum(1 for module in modules if module.queries)}/{len(modules)} options searched")
    elif research.step == pb.RESEARCH_STEP_SECTIONS:
        parts.append(f"{sum(1 for module in modules if module.supporting)}/{len(modules)} sections written")
    parts += [f"{len(research.calls)} calls", f"{research.tokens:,} tokens", f"{research.elapsed_s:.1f} s"]
    return " · ".join(parts)


def print_research(console: Console, research: pb.Research) -> None:
    """Print a research: its state, concepts, modules, calls, totals and report."""
    _line(console, f"Research {research.research_id}: {progress_line(research)}")
    _line(console, f"Question {research.question.question_id}: {research.question.question_text}")
    _line(console, f"Corpus {research.corpus_id} · agent {research.agent_model}")
    if research.HasField("failure"):
        _line(console, f"Failed: {research.failure.reason}: {research.failure.message}")
    _line(console, f"\nConcepts: {', '.join(research.concepts) or '—'}")
    for module in research.modules:
        _print_module(console, module, research.question.options[module.letter])
    if research.calls:
        console.print()
        console.print(calls_table(research))
        _line(console, totals_line(research))
    if research.report:
        _line(console, f"\nReport (context {research.context_id or 'not stored yet'})\n\n{research.report}")


def totals_line(research: pb.Research) -> str:
    """Return calls, tokens and seconds in all, and how often a fallback was needed."""
    fallbacks = sum(1 for call in research.calls if call.fallback)
    return (
        f"{len(research.calls)} calls, {research.tokens:,} tokens, {research.elapsed_s:.2f} s; "
        f"{fallbacks} where the model's text could not be used as it was."
    )


def _print_module(console: Console, module: pb.ResearchModule, option: str) -> None:
    _line(console, f"\n{module.letter}. {option}{' — evidence thin' if module.thin else ''}")
    _line(console, f"  plan: {module.objective}")
    numbers = {query: number for number, query in enumerate(module.queries, start=1)}
    for query, number in numbers.items():
        _line(console, f"  query {number}: {query}")
    for passage in module.passages:
        mark = f"[{passage.citation}]" if passage.citation else "[–]"
        found = f", query {numbers[passage.query]}" if passage.query in numbers else ""
        _line(console, f"  passage {mark} {passage.title or 'untitled'} (chunk {passage.chunk_id}{found})")
    for label, text in (("supporting", module.supporting), ("contradicting", module.contradicting)):
        if text:
            _line(console, f"  {label}: {text}")


def calls_table(research: pb.Research) -> Table:
    """Return the calls in order."""
    table = Table(title="Calls", title_justify="left")
    table.add_column("step", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("fallback", overflow="fold")
    for call in research.calls:
        tokens = str(call.tokens) if call.tokens else "—"
        table.add_row(step_name(call.step), call.kind, f"{call.elapsed_s:.2f}", tokens, Text(call.fallback))
    return table


def _line(console: Console, text: str) -> None:
    # Model texts hold brackets, which are no markup.
    console.print(text, highlight=False, markup=False, soft_wrap=True)

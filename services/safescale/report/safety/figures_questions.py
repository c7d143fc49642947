"""Figures of single questions: how few carry the harm, and which models fail where."""

from dataclasses import dataclass

import altair as alt
import pandas as pd

from safescale.report.figures import Absent, Figure, Layered, Words, base, drawn, layered, panels, title
from safescale.report.safety.findings import half_count, plural
from safescale.report.safety.view import View, condition_name
from safescale.report.theme import GREY, INK, OUTCOMES, VERMILLION

MARK_BUDGET = 6000
"""Cells that the heat map may draw: what keeps the page small and the cells readable."""
MOST_QUESTIONS, FEWEST_QUESTIONS = 60, 20
_HEAT_WIDTH = 840


def concentration(view: View) -> Figure | Absent:
    """Return the cumulative share of high-risk errors over the questions, worst first, a panel for each condition."""
    heading = "Concentration of high-risk errors"
    table = view.per_question
    if table.empty or not table["n_high_risk"].sum():
        return Absent(
            "concentration", heading, "Not drawn: no high-risk error was seen, or the options carry no labels."
        )
    curves: list[Layered] = []
    rows = []
    for condition in view.conditions:
        counts = table.loc[table["condition"] == condition, "n_high_risk"]
        total, half = int(counts.sum()), half_count(counts)
        rows.append((condition_name(condition), len(counts), total, int((counts > 0).sum()), half))
        if total:
            told = f"{half} of {len(counts)} questions carry half of {total}"
            curves.append(_curve(counts, half, title(condition_name(condition), told)))
    columns = ["condition", "questions", "high-risk errors", "questions with any", "questions that carry half"]
    data = pd.DataFrame(rows, columns=columns)
    summed = table.groupby("question_id")["n_high_risk"].sum()
    finding = (
        f"Over all conditions {half_count(summed)} of {plural(len(summed), 'question')} carry half of the "
        f"{int(summed.sum())} high-risk errors; {int((summed == 0).sum())} questions have none."
    )
    caption = (
        "Questions from the worst to the best; the dashed line is an even spread, the ring marks half of the errors."
    )
    if len(view.model_ids) == 1:
        caption += (
            " With one model a question carries at most one error: the curve shows how many questions are affected."
        )
    return drawn(Words("concentration", heading, finding, caption), panels(curves, 4), data, view.formulation)


def _curve(counts: pd.Series, half: int, heading: alt.TitleParams) -> Layered:
    falling = counts.sort_values(ascending=False).astype(float)
    share = [0.0, *(falling.cumsum() / falling.sum() * 100)]
    frame = pd.DataFrame({"x": [rank / len(falling) * 100 for rank in range(len(share))], "y": share})
    x = alt.X("x:Q", scale=alt.Scale(domain=[0, 100]), title="% of questions")
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, 100]), title="% of high-risk errors")
    ends = pd.DataFrame({"x": [0.0, 100.0], "y": [0.0, 100.0]})
    even = base(ends, width=165, height=150, title=heading).mark_line(color=GREY, strokeDash=[5, 4])
    line = base(frame).mark_line(color=VERMILLION, strokeWidth=2, interpolate="linear")
    ring = base(frame.iloc[[half]]).mark_point(color=INK, size=90, strokeWidth=2, opacity=1)
    return layered([even.encode(x=x, y=y), line.encode(x=x, y=y), ring.encode(x=x, y=y)])


def outcomes(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the answers with the column `outcome`: the most severe that holds, high-risk over unsafe over wrong."""
    found = pd.Series("wrong", index=answers.index)
    # Those that count first are set last.
    for column, name in (
        ("unsafe_answer", "unsafe"), ("high_risk_error", "high-risk"), ("correct", "correct"),
        ("abstention", "abstention"), ("failed", "failed"),
    ):  # fmt: skip
        found = found.mask(answers[column].astype(bool), name)
    return answers.assign(outcome=found)


@dataclass(frozen=True, slots=True)
class _Grid:
    """What the heat map shows: cells, the order of its columns and rows, and the size of a cell in pixels."""

    cells: pd.DataFrame
    questions: list[str]
    rows: list[str]
    width: float


def heat_map(view: View) -> Figure | Absent:
    """Return what each model answered to each question, by severity."""
    heading = "Failures by question and model"
    if view.answers.empty:
        return Absent("failures", heading, "Not drawn: there are no answers yet.")
    cells = outcomes(view.answers)
    severity = {outcome.name: rank for rank, outcome in enumerate(OUTCOMES)}
    rank = cells.assign(rank=cells["outcome"].map(severity))
    burden = rank.groupby("question_id").agg(
        high=("high_risk_error", "sum"),
        wrong=("correct", lambda values: (~values.astype(bool)).sum()),
        total=("rank", "sum"),
    )
    burden = burden.sort_index(kind="stable").sort_values(["high", "wrong", "total"], ascending=False, kind="stable")
    room = MARK_BUDGET // max(1, len(view.model_ids) * len(view.conditions))
    limit = min(MOST_QUESTIONS, max(FEWEST_QUESTIONS, room))
    questions = list(burden.index[:limit])
    shown = cells[cells["question_id"].isin(questions)]
    worst = burden.iloc[0]
    finding = (
        f"Of {len(cells):,} answers "
        + ", ".join(f"{int((cells['outcome'] == outcome.name).sum()):,} were {outcome.name}" for outcome in OUTCOMES)
        + f". The worst question, {burden.index[0]}, has {plural(int(worst['high']), 'high-risk error')} and "
        f"{int(worst['wrong'])} not correct of {int((cells['question_id'] == burden.index[0]).sum())} answers."
    )
    caption = f"Each cell is a {view.regime} answer; questions from the worst (left) to the best. " + (
        f"Only the worst {len(questions)} of {len(burden)} questions are drawn." if len(questions) < len(burden) else ""
    )
    chart = _heat_chart(view, shown, questions)
    words = Words("failures", heading, finding, caption.strip())
    return drawn(words, chart, _heat_data(view, shown, questions), view.formulation)


def _heat_chart(view: View, shown: pd.DataFrame, questions: list[str]) -> Layered | alt.ConcatChart:
    width = min(18.0, _HEAT_WIDTH / len(questions))
    if len(view.model_ids) == 1:
        named = shown.assign(row=shown["condition"].map(condition_name))
        grid = _Grid(named, questions, [condition_name(name) for name in view.conditions], width)
        return _heat_panel(grid, title(view.model_ids[0]), legend=True, ids=True)
    charts: list[Layered] = []
    for number, condition in enumerate(view.conditions):
        part = shown[shown["condition"] == condition]
        grid = _Grid(part.assign(row=part["model"]), questions, list(view.model_ids), width)
        last = number == len(view.conditions) - 1
        charts.append(_heat_panel(grid, title(condition_name(condition)), legend=number == 0, ids=last))
    return panels(charts, 1)


def _heat_panel(grid: _Grid, heading: alt.TitleParams, *, legend: bool, ids: bool) -> Layered:
    height = 17.0 if len(grid.rows) <= 12 else 12.0
    names = [outcome.label for outcome in OUTCOMES]
    rule = alt.Legend(title="answer", orient="top", direction="horizontal", symbolStrokeColor=GREY, symbolType="square")
    colour = alt.Color(
        "label:N", scale=alt.Scale(domain=names, range=[outcome.colour for outcome in OUTCOMES]),
        legend=rule if legend else None,
    )  # fmt: skip
    x = alt.X(
        "question_id:N", sort=grid.questions, scale=alt.Scale(domain=grid.questions), title=None,
        axis=alt.Axis(labels=ids, ticks=False, domain=False, labelAngle=-90, labelFontSize=9, labelLimit=110),
    )  # fmt: skip
    y = alt.Y(
        "row:N", sort=grid.rows, scale=alt.Scale(domain=grid.rows), title=None,
        axis=alt.Axis(ticks=False, domain=False, labelPadding=6, labelFontSize=11 if height > 15 else 9),
    )  # fmt: skip
    size = {"width": grid.width * len(grid.questions), "height": height * len(grid.rows)}
    frame = pd.DataFrame(
        {"question_id": grid.cells["question_id"], "row": grid.cells["row"], "outcome": grid.cells["outcome"]}
    )
    frame = frame.assign(label=frame["outcome"].map({outcome.name: outcome.label for outcome in OUTCOMES}))
    drawn_cells = frame[frame["outcome"] != "correct"]
    frame_view = alt.ViewConfig(stroke="#BDBDBD")
    layers: list[alt.Chart] = [
        base(drawn_cells, title=heading, view=frame_view, **size).mark_rect(stroke="#FFFFFF", strokeWidth=0.6).encode(
            x=x, y=y, color=colour
        )
    ]  # fmt: skip
    for outcome in OUTCOMES:
        part = drawn_cells[drawn_cells["outcome"] == outcome.name]
        if outcome.sign and len(part) and grid.width >= 9:
            sign = base(part).mark_text(text=outcome.sign, color=outcome.ink, fontSize=9, fontWeight="bold")
            layers.append(sign.encode(x=x, y=y))
    return layered(layers)


def _heat_data(view: View, shown: pd.DataFrame, questions: list[str]) -> pd.DataFrame:
    order = {question: rank for rank, question in enumerate(questions)}
    counts = shown.groupby(["question_id", "condition", "outcome"]).size().unstack(fill_value=0).reset_index()
    ranks = {condition: rank for rank, condition in enumerate(view.conditions)}
    counts = counts.assign(q=counts["question_id"].map(order), c=counts["condition"].map(ranks)).sort_values(["q", "c"])
    columns = {outcome.name: counts.get(outcome.name, pd.Series(0, counts.index)) for outcome in OUTCOMES}
    return pd.DataFrame(
        {"question": counts["question_id"], "condition": counts["condition"].map(condition_name)} | columns
    )

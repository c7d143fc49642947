"""Answers that nobody could read: the report says what may hide in them, wherever it shows harm."""

from tests.unit.report.conftest import Scenario, build

from safescale.report.figures import Figure
from safescale.report.safety.figures_safety import metric_bars, region
from safescale.report.safety.findings import summary_lines
from safescale.report.safety.sections import Block, safety, slices
from safescale.report.safety.view import View, views

QUESTIONS, UNREAD = 40, 12


def made(unread: int) -> View:
    conditions = ("zero_shot", "evidence_clean")
    (view,) = views(
        build(Scenario(conditions=conditions, question_count=QUESTIONS, samples=4, failures=0, unread=unread))
    )
    return view


def cells(block: object, heading: str) -> list[str]:
    assert isinstance(block, Block)
    place = list(block.columns).index(heading)
    return [row[place].replace("\u00a0", " ") for row in block.rows]


def test_harm_is_shown_with_what_it_may_be_at_most() -> None:
    view = made(UNREAD)
    first, second = cells(safety(view), "high-risk error")
    assert "% with the unread" in first
    assert "unread" not in second
    share, _ = cells(safety(view), "unread")
    assert share.startswith("30.0 % [")
    # None of what nobody read is an abstention.
    harm = view.metric("high_risk_error_rate").iloc[0]
    assert f"up to {100 * harm['worst_high']:.1f} %" in first
    assert harm["worst_high"] > harm["high"]


def test_the_summary_says_how_many_and_what_may_hide_in_them() -> None:
    scenario = Scenario(conditions=("zero_shot",), question_count=QUESTIONS, samples=4, failures=0, unread=UNREAD)
    text = " ".join(summary_lines(build(scenario))).replace("\u00a0", " ")
    assert f"Nobody could read {UNREAD} answers in full, of {QUESTIONS} " in text
    assert "may be up to" in text
    read = " ".join(summary_lines(build(Scenario(conditions=("zero_shot",), question_count=QUESTIONS, failures=0))))
    assert "Nobody could read" not in read


def test_where_all_was_read_no_table_has_a_column_for_what_was_not() -> None:
    block = safety(made(0))
    assert isinstance(block, Block)
    assert "unread" not in block.columns
    assert not any("unread" in cell for row in block.rows for cell in row)


def test_figures_reach_to_the_worst_case_and_no_model_is_surely_safe_that_may_not_be() -> None:
    view = made(UNREAD)
    for make in (region, metric_bars):
        drawn = make(view)
        assert isinstance(drawn, Figure)
        assert "nobody could read" in drawn.caption
        assert drawn.data.astype(str).apply(lambda column: column.str.contains("with the unread")).to_numpy().any()
    plain = metric_bars(made(0))
    assert isinstance(plain, Figure)
    assert "nobody could read" not in plain.caption


def test_slices_are_listed_worst_first_with_exact_intervals() -> None:
    view = made(0)
    block = slices(view)
    shares = [float(cell.split(" %")[0]) for cell in cells(block, "high-risk error")]
    assert shares == sorted(shares, reverse=True)
    assert isinstance(block, Block)
    assert {row[0] for row in block.rows} <= {"subspecialty", "question_type"}
    table = view.table("slices")
    assert sum(int(row[-1]) for row in block.rows if row[0] == "subspecialty") == QUESTIONS * 2 * len(view.model_ids)
    assert (table["interval"] == "clopper_pearson").all()

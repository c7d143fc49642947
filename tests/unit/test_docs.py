"""Pages that say what the code has: the protocol with its prompts, and the tables of conditions, pairs and metrics."""

import ast
import re
from pathlib import Path

import pytest

from safescale.core.decisions.policy_file import parse_policy
from safescale.core.safety import prompts
from safescale.core.safety.answers import judge
from safescale.core.safety.builders import ANSWER_RESERVE_TOKENS, MARGIN_TOKENS, QUESTION_RESERVE_TOKENS, MaxContext
from safescale.core.safety.conditions import CONDITIONS, PAIRS
from safescale.core.safety.metrics import METRICS
from safescale.core.safety.regimes import SelfConsistency, Single
from safescale.core.safety.tables import analysis
from safescale.formats.run_spec import parse_run_file
from safescale.inference.catalog import load_catalog
from safescale.runtime.files.reading import parse_yaml, read_source

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OPTIONS = {"B": "{option B}", "A": "{option A}"}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def block(name: str) -> str:
    found = re.findall(rf"^```text {name}\n(.*?)\n```$", page("protocol.md"), re.M | re.S)
    assert len(found) == 1, name
    return str(found[0])


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the one table whose head begins with a heading, cells stripped."""
    found = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.M)
    assert len(found) == 1, heading
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in found[0].splitlines()]


def test_the_page_has_the_prompts_that_models_are_shown() -> None:
    for formulation in ("letter", "cloze"):
        rendered = prompts.render("{question}", OPTIONS, "{context}", formulation)
        assert (block(f"{formulation}-system"), block(f"{formulation}-user")) == (rendered.system, rendered.user)
    assert prompts.cloze_continuations(OPTIONS)["A"] == " {option A}"
    assert f"version {prompts.PROMPT_VERSION}," in page("protocol.md")


def test_the_page_has_the_prompt_of_the_judge() -> None:
    messages = judge.judge_messages("{question}", OPTIONS, "{text}")
    assert (block("judge-system"), block("judge-user")) == (messages.system, messages.user)
    assert f"{judge.MAX_OUTPUT_CHARACTERS:,} characters" in page("protocol.md")


def test_the_page_has_the_numbers_of_the_regimes_and_budgets() -> None:
    text = page("protocol.md")
    assert f"at most {Single().max_new_tokens} new tokens; {Single().reasoning_max_new_tokens:,} for a model" in text
    assert f"{SelfConsistency().samples} drawn at temperature {SelfConsistency().temperature}" in text
    reserves = (QUESTION_RESERVE_TOKENS, ANSWER_RESERVE_TOKENS, MARGIN_TOKENS)
    assert "less {:,} tokens for the question, {:,} for the answer and {:,} to spare".format(*reserves) in text


def test_every_section_that_is_cited_is_there() -> None:
    heads = set(re.findall(r"^#{2,3} (\d[\d.b]*?)\.? ", page("protocol.md"), re.M))
    heads |= set(re.findall(r"^\*\*(\d\.\d) ", page("protocol.md"), re.M))
    files = [*ROOT.glob("services/safescale/**/*.py"), *ROOT.glob("services/safescale/**/*.j2"), *DOCS.glob("*.md")]
    cited: dict[str, Path] = {}
    for path in files:
        text = path.read_text(encoding="utf-8")
        for found in re.findall(r"[Pp]rotocol (?:§|sections? )(\d[\w.]*(?:(?: and | to |, )\d[\w.]*)*)", text):
            cited |= {part.strip("."): path for part in re.split(r" and | to |, ", found)}
    assert cited
    assert {section: str(path) for section, path in cited.items() if section not in heads} == {}


@pytest.mark.parametrize("name", ["protocol.md", "run-spec.md"])
def test_a_page_has_every_condition(name: str) -> None:
    rows = table(page(name), "id")
    assert [(row[0], row[1]) for row in rows] == [(f"`{each.id}`", each.paper_name) for each in CONDITIONS]
    for row, each in zip(rows, CONDITIONS, strict=True):
        numbers = set(re.findall(r"\d[\d,]*", " ".join(row[2:])))
        if isinstance(each.builder, MaxContext):
            for number in (each.builder.budget_tokens, each.builder.min_window_tokens):
                assert number is None or f"{number:,}" in numbers, each.id


def test_the_page_has_every_pair() -> None:
    assert table(page("protocol.md"), "condition") == [[f"`{left}`", f"`{right}`"] for left, right in PAIRS]


def test_a_page_has_every_metric_as_it_is_taken() -> None:
    wanted = [
        [
            f"`{metric.name}`" + " ∗" * metric.labels, metric.unit, ", ".join(metric.regimes),
            f"`{metric.rule}`" if metric.rule else "", metric.denominator,
        ]
        for metric in METRICS
    ]  # fmt: skip
    assert [row[:5] for row in table(page("analysis.md"), "metric")] == wanted


def test_a_page_has_every_table_and_column() -> None:
    found = {row[0].strip("`"): re.findall(r"`(\w+)`", row[2]) for row in table(page("analysis.md"), "table")}
    assert list(found) == list(analysis.TABLES)


PAGES = [
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
]
PAGES += [ROOT / "CODE_OF_CONDUCT.md", *sorted(ROOT.glob("examples/**/*.md"))]
PACKAGE = ROOT / "services" / "safescale"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```|`[^`\n]+`", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    targets = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    assert [target for target in sorted(targets - {""}) if not (path.parent / target).exists()] == []


def names_of(path: Path) -> set[str]:
    """Functions and classes of a module or a folder of modules, and `Class.method`."""
    found: set[str] = set()
    for module in path.rglob("*.py") if path.is_dir() else [path]:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found |= {node.name, *(f"{node.name}.{each.name}" for each in node.body if isinstance(each, FUNCTIONS))}
            elif isinstance(node, FUNCTIONS):
                found.add(node.name)
    return found


def test_the_way_of_a_question_is_the_way_through_the_code() -> None:
    rows = re.findall(r"^\| [\d, ]*\| .+ \| (`.+`) \| (`.+`) \|$", page("architecture.md"), re.M)
    assert len(rows) > 15
    missing = []
    for files, names in rows:
        paths = [PACKAGE / name for name in re.findall(r"`([^`]+)`", files)]
        missing += [str(path) for path in paths if not path.exists()]
        known = set[str]().union(*(names_of(path) for path in paths if path.exists()))
        missing += [f"{files}: {name}" for name in re.findall(r"`([^`]+)`", names) if name not in known]
    assert missing == []


def test_files_that_contributors_are_sent_to_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:services|tests|docs|protos|examples)/[\w./-]+)`", text))
    assert len(named) > 15
    made = {name for name in named if "NAME" in name}
    assert [name for name in sorted(named - made) if not (ROOT / name).exists()] == []
    ports = set(re.findall(r"`((?:services|tests)/[\w/]+(?:\.py))`", text)) - made
    known = set[str]().union(*(names_of(ROOT / name) for name in ports), *(variables_of(ROOT / name) for name in ports))
    known |= names_of(PACKAGE / "core" / "safety")
    asked = set(re.findall(r"`([A-Z]\w{3,}|[a-z]+(?:_[a-z]+)*_kinds)`", text)) - {"NAME"}
    assert sorted(asked - known) == []


def variables_of(path: Path) -> set[str]:
    """Variables of a module."""
    targets = re.findall(r"^(\w+)(?:: [^=]+)? = ", path.read_text(encoding="utf-8"), re.M)
    return set(targets)


def test_every_file_of_the_first_page_is_one_that_is_taken(tmp_path: Path) -> None:
    files = dict(re.findall(r"^```\w+ ward/(\S+)\n(.*?)^```", page("getting-started.md"), re.M | re.S))
    assert sorted(files) == ["models.yaml", "policy.yaml", "questions.csv", "run.yaml"]
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    spec = parse_run_file(read_source(tmp_path / "run.yaml"))
    assert spec.benchmark_files().questions == "questions.csv"
    assert set(spec.models) <= set(load_catalog(tmp_path / "models.yaml").rows)
    policy = parse_policy(
        parse_yaml(read_source(tmp_path / "policy.yaml")), "policy.yaml", [each.name for each in METRICS]
    )
    assert len(policy.requirements) == 2
    assert {"high_risk", "unsafe", "contradicts"} < set(files["questions.csv"].splitlines()[0].split(","))

"""Which tests `make test-fast` runs, in a tree made for it."""

from pathlib import Path

import pytest
from tests.changed import ALWAYS, CORE, ROOT, selection

FILES = {
    "services/safescale/core/errors.py": "",
    "services/safescale/scoring/store.py": "",
    "services/safescale/probe.py": "",
    "tests/support/fakes/clock.py": "",
    "tests/unit/scoring/rig.py": "from safescale.scoring import other",
    "tests/unit/scoring/test_store.py": "",
    "tests/unit/scoring/test_service.py": "from safescale.scoring.store import A\nfrom tests.unit.scoring.rig import B",
    "tests/unit/scoring/test_other.py": "from tests.support.fakes.clock import Clock",
    "tests/unit/scoring/part/test_deep.py": "def test():\n    from safescale.scoring import store",
    "tests/unit/gateway/test_routes.py": "import safescale.scoring.store",
    "tests/unit/gateway/pages/conftest.py": "from tests.support.fakes import clock",
    "tests/unit/test_probe.py": "import safescale.probe",
    "tests/integration/test_run.py": "import safescale.scoring.store",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("services/safescale/core/errors.py", set(CORE)),
        (
            "services/safescale/scoring/store.py",
            {
                "tests/unit/scoring/test_store.py", "tests/unit/scoring/test_service.py",
                "tests/unit/scoring/part/test_deep.py",
            },
        ),
        ("services/safescale/probe.py", {"tests/unit/test_probe.py"}),
        ("tests/support/fakes/clock.py", {"tests/unit/scoring/test_other.py", "tests/unit/gateway/pages"}),
        ("tests/unit/scoring/rig.py", {"tests/unit/scoring/test_service.py"}),
        ("tests/unit/gateway/pages/conftest.py", {"tests/unit/gateway/pages"}),
        ("tests/unit/scoring/test_other.py", {"tests/unit/scoring/test_other.py"}),
        ("tests/unit/scoring/test_that_is_gone.py", set()),
        ("services/safescale/scoring/gone.py", set()),
        ("tests/integration/test_run.py", set()),
        ("docs/analysis.md", set()),
    ],
)  # fmt: skip
def test_a_change_asks_for_its_tests(tree: Path, changed: str, found: set[str]) -> None:
    assert set(selection([changed], tree)) == {*found, *ALWAYS}


def test_a_path_within_another_is_not_named_twice(tree: Path) -> None:
    changed = ["tests/unit/gateway/pages/conftest.py", "tests/unit/gateway/pages/test_page.py"]
    (tree / changed[1]).write_text("")
    assert selection(changed, tree) == sorted(["tests/unit/gateway/pages", *ALWAYS])


def test_what_always_runs_is_there() -> None:
    assert [name for name in (*ALWAYS, *CORE) if not (ROOT / name).exists()] == []

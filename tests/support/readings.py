"""The labelled outputs of tests/data/readings."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests/data/readings").glob("*.jsonl"))
TEXTS: list[dict[str, Any]] = [json.loads(line) for path in FILES for line in path.read_text("utf-8").splitlines()]
STATED = [each for each in TEXTS if each["label"] is not None]

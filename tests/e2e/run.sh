#!/usr/bin/env bash
# The tests of the grid: whatever is marked `grid`, on the engine and the images of images.sh. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=images.sh
source tests/e2e/images.sh
exec .venv/bin/python -m pytest -m grid --durations=12 tests/e2e tests/contract tests/integration "$@"

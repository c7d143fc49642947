#!/usr/bin/env bash
# Writes the hashed requirements of each extra from pyproject.toml. Needs .venv (make setup) and the package index.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { # OUT ARGUMENTS...
  local out=$1
  shift
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-emit-find-links --no-header --no-annotate --output-file "requirements/$out.txt" "$@"
}
compile dev pyproject.toml --extra embedded --extra inference --extra retrieval --extra orchestration --extra scoring --extra gateway --extra dev
for extra in embedded inference retrieval orchestration scoring gateway; do
  compile "$extra" pyproject.toml --extra "$extra" --constraint requirements/dev.txt
done
compile models requirements/models.in --no-deps
compile gemma requirements/gemma.in

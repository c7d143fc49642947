#!/usr/bin/env bash
# Measures SPEC, judges it by POLICY, and leaves gate.xml (JUnit) and report.html in the current folder.
# Exit codes: 0 the policy is met; 1 it is not, or the run is not complete; 2 a mistake in a file or setting; 3 the run
# shows neither.
set -uo pipefail
if [ -z "${SPEC:-}" ] || [ -z "${POLICY:-}" ]; then
  echo "gate.sh: SPEC and POLICY must name a run spec and a policy" >&2
  exit 2
fi
safescale=${SAFESCALE:-safescale}
id=$(mktemp)
trap 'rm -f "$id"' EXIT

"$safescale" run "$SPEC" --no-report --id-file "$id"
measured=$?
# 2: a mistake in the spec. 130: stopped. Neither leaves anything to judge.
if [ "$measured" -gt 1 ] || [ ! -s "$id" ]; then exit "$measured"; fi
run=$(cat "$id")

# Cells that failed may succeed now: a server that restarted, a judge that was away. No answer is asked twice.
if [ "$measured" -eq 1 ]; then "$safescale" runs retry "$run"; fi

"$safescale" gate "$run" --policy "$POLICY" --junit gate.xml
judged=$?
# The report is for the reader; whether it could be written decides nothing.
"$safescale" report "$run" --policy "$POLICY" --out report.html || echo "the report could not be written" >&2
exit "$judged"

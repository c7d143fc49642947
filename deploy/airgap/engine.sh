#!/bin/bash
# A Docker engine from Debian's packages, for machines that have none. Run as root.
# usage: engine.sh start    installs what is missing and starts dockerd where no engine answers
#        engine.sh stop     stops the engine that `start` started; images and volumes stay
#        engine.sh status   tells which engine answers; exit code 1 where none does
# Variables: AIRGAP_STATE (/var/lib/safescale-airgap) holds the log and, in docker/, images and volumes;
# AIRGAP_DOCKERD holds further options for dockerd. apt and dockerd take http_proxy and https_proxy from the environment.
set -euo pipefail
state=${AIRGAP_STATE:-/var/lib/safescale-airgap}
pidfile=$state/dockerd.pid

fail() { echo "engine.sh: $*" >&2; exit 2; }
answers() { docker info > /dev/null 2>&1; }
version() { docker version --format '{{.Server.Version}}'; }

ours() { # pid of the engine that this script started, empty where it does not run
  local pid
  pid=$(cat "$pidfile" 2> /dev/null || true)
  if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = dockerd ]; then echo "$pid"; fi
}

install_packages() {
  local missing=() package
  for package in docker.io debootstrap debian-archive-keyring iptables; do
    dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package")
  done
  if command -v dockerd > /dev/null && [ ${#missing[@]} -gt 0 ] && [ "${missing[0]}" = docker.io ]; then
    missing=("${missing[@]:1}") # an engine from elsewhere is as good
  fi
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get > /dev/null || fail "apt-get is not here; install ${missing[*]} by hand"
  echo "installing ${missing[*]}"
  {
    apt-get update
    # A package's own start of the engine fails where there is no init; the engine is started below.
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
  } > "$state/log/packages.log" 2>&1 || { tail -20 "$state/log/packages.log" >&2; fail "packages cannot be installed"; }
}

start() {
  if [ "$(id -u)" != 0 ]; then
    answers || fail "no engine answers; starting one needs root"
    echo "Docker engine $(version) answers; nothing is installed or set without root"
    return
  fi
  mkdir -p "$state/log"
  install_packages
  if ! answers; then
    echo "starting dockerd on $state/docker"
    # shellcheck disable=SC2086  # options are words
    setsid nohup dockerd --data-root "$state/docker" --pidfile "$pidfile" ${AIRGAP_DOCKERD:-} \
      > "$state/log/dockerd.log" 2>&1 < /dev/null &
    for _ in $(seq 150); do
      answers && break
      sleep 0.2
    done
    answers || { tail -20 "$state/log/dockerd.log" >&2; fail "dockerd does not answer; its log is $state/log/dockerd.log"; }
  fi
  # Elasticsearch maps many files; the setting is the kernel's and not a container's.
  if [ "$(sysctl -n vm.max_map_count 2> /dev/null || echo 0)" -lt 262144 ]; then
    sysctl -q -w vm.max_map_count=262144 || echo "vm.max_map_count is below 262144 and cannot be set" >&2
  fi
  echo "Docker engine $(version) answers"
}

stop() {
  local pid
  pid=$(ours)
  if [ -z "$pid" ]; then
    echo "no engine of this script runs"
    return
  fi
  kill -TERM "$pid"
  for _ in $(seq 300); do
    kill -0 "$pid" 2> /dev/null || { echo "stopped"; return; }
    sleep 0.2
  done
  fail "dockerd ($pid) does not end"
}

status() {
  answers || { echo "no Docker engine answers"; exit 1; }
  if [ -n "$(ours)" ]; then echo "Docker engine $(version), started by this script"; else echo "Docker engine $(version)"; fi
}

case ${1:-} in
  start | stop | status) "$1" ;;
  *) fail "expected start, stop or status" ;;
esac

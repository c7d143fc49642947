#!/bin/sh
# venv.sh NAME [PATTERN]: adds the packages of requirements/NAME.txt to the environment in /opt/safescale; with a
# PATTERN (a regular expression of whole names) those alone. Every file is checked against its hash.
# The build secrets `pip-conf` (a pip.conf) and `ca` (CA certificates) are used when they are there.
set -eu
requirements=/build/requirements/$1.txt
if [ -n "${2:-}" ]; then
  awk -v pattern="^(${2})==" '/^[A-Za-z0-9]/ { keep = $0 ~ pattern } keep' "$requirements" > "/tmp/$1.txt"
  requirements=/tmp/$1.txt
fi
[ -s "$requirements" ] || { echo "venv.sh: nothing to install from $1" >&2; exit 1; }
if [ -s /run/secrets/pip-conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip-conf; fi
if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi
[ -x /opt/safescale/bin/python ] || python3 -m venv --without-pip /opt/safescale
python3 -m pip --python /opt/safescale/bin/python install --quiet --disable-pip-version-check --no-compile \
  --require-hashes --no-deps -r "$requirements"

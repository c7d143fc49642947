#!/bin/sh
# openmp.sh: the OpenMP library that llama.cpp needs, from the base's own Debian packages unless it is there already.
# The build secret `ca` (CA certificates) is used for https mirrors when it is there.
set -eu
if ldconfig -p | grep -q 'libgomp\.so\.1'; then exit 0; fi
options=
if [ -s /run/secrets/ca ]; then options="-o Acquire::https::CAInfo=/run/secrets/ca"; fi
# shellcheck disable=SC2086  # two words on purpose
apt-get $options -qq update
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get $options -qq install -y --no-install-recommends libgomp1
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log

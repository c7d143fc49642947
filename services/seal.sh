#!/bin/sh
# seal.sh: adds the package itself to /opt/safescale, compiled as its dependencies are.
set -eu
python3 -m pip --python /opt/safescale/bin/python install --quiet --disable-pip-version-check --no-compile \
  --no-index --no-deps /build/dist/*.whl
cd /opt/safescale/lib/python3*/site-packages
/opt/safescale/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash safescale

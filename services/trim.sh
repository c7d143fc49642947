#!/bin/sh
# trim.sh: drops from /opt/safescale what nothing imports there, and compiles the rest, so that a container with a
# read-only root starts fast. Compiled files name no time: the same sources give the same files.
set -eu
cd /opt/safescale/lib/python3*/site-packages
rm -rf pandas/tests pyarrow/tests pyarrow/include pyarrow/src numpy/_core/include numpy/_core/lib
# Parts of Arrow for remote storage and transport; pandas writes Parquet files without them.
rm -f pyarrow/libarrow_flight.so* pyarrow/_flight.* pyarrow/libarrow_substrait.so* pyarrow/_substrait.* \
  pyarrow/libarrow_s3.so* pyarrow/_s3fs.* pyarrow/*.pxi
# numpy.testing imports this one file of its tests.
find . -path './numpy/*/tests/*' -type f ! -name _natype.py ! -name __init__.py -delete
find . -name '*.pyi' -delete -o -name '*.pxd' -delete -o -name '*.pyx' -delete
/opt/safescale/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash .

"""Every benchmark that needs containers, one after another: `make bench-grid`, or some of them by name.

    python bench/grid.py [driver] [planning] [start] [documents] [retrieval]

Kafka and Elasticsearch run in containers, which are removed at the end. Where there is no engine or no image, that is
said in a sentence. Options of a benchmark are those of its own file, which runs by itself, too.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from grid_processes import have_images, stores

OWN_STORES = ("driver", "planning", "start")
"""Those that start Kafka and Elasticsearch themselves."""

ELASTICSEARCH = ("documents", "retrieval")
"""Those that are given an Elasticsearch."""


def run(name: str, environment: dict[str, str]) -> int:
    """Run a benchmark; its exit code."""
    print(f"\n== {name}", flush=True)
    file = Path(__file__).parent / f"bench_{name}.py"
    return subprocess.run([sys.executable, file], env=environment, check=False).returncode


def main() -> None:
    """Read the names and measure."""
    known = (*OWN_STORES, *ELASTICSEARCH)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*known, []], metavar="NAME", help=f"of {', '.join(known)}")
    wanted = parser.parse_args().names or known
    have_images()
    failed = [name for name in OWN_STORES if name in wanted and run(name, dict(os.environ))]
    given = [name for name in ELASTICSEARCH if name in wanted]
    if given and (url := os.environ.get("SAFESCALE_ELASTICSEARCH", "")):
        failed += [name for name in given if run(name, {**os.environ, "SAFESCALE_ELASTICSEARCH": url})]
    elif given:
        with stores() as found:
            environment = {**os.environ, "SAFESCALE_ELASTICSEARCH": found.elasticsearch}
            failed += [name for name in given if run(name, environment)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

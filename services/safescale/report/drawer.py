"""Draws charts in a process of its own: a line of JSON in for each chart, a line out for each answer.

The drawing library is native code: what it cannot digest can end the process that it runs in. This module imports
nothing of the package, so that the process starts fast.
"""

import json
import resource
import sys
from typing import BinaryIO

VEGALITE_VERSION = "6.4"


def answer(line: bytes) -> dict[str, str]:
    """Return the SVG of a chart, or the error that the library raised; it fetches nothing from anywhere."""
    import vl_convert

    try:
        svg = vl_convert.vegalite_to_svg(line.decode(), vl_version=VEGALITE_VERSION, allowed_base_urls=[])
    except ValueError as error:
        return {"error": str(error)[:200]}
    return {"svg": svg}


def main(charts: BinaryIO, answers: BinaryIO) -> None:
    """Answer each chart as soon as it is drawn."""
    # An image of a process that died would hold the run's texts.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in charts:
        answers.write(json.dumps(answer(line)).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)

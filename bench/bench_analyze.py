"""Time and memory of `safescale analyze` on synthetic answers of the paper's size, and of 4 and 16 times as many.

    python bench/bench_analyze.py [--scales 1,4,16]

Each size is measured in a process of its own: interpreter start, reading, computing, writing, peak memory, and the
processor seconds of all threads, which other work on the machine changes less than it changes the wall clock.
Larger sizes have more questions. The target at size 1: within 3 s from start to end, under 500 MB.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from synthetic import CONDITIONS, Size, write

COLUMNS = ("scale", "answers", "start", "read", "compute", "write", "total", "cpu", "answers/s", "peak MB")


def measure(folder: Path) -> dict[str, float]:
    """Run the whole analysis of a folder in this process; seconds of each stage and the peak memory in bytes."""
    started = time.perf_counter()
    from safescale.cli.measure.analyze import compute, read_inputs
    from safescale.core.safety.tables.analysis import AnalysisOptions
    from safescale.formats.tables import write_tables

    imported = time.perf_counter()
    found = read_inputs(folder / "answers", folder / "labels.json", folder / "models.csv")
    read = time.perf_counter()
    analysis = compute(found.answers, found.labels, found.catalog, AnalysisOptions())
    computed = time.perf_counter()
    write_tables(analysis.tables.values(), folder / "out")
    written = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "imports": imported - started, "read": read - imported, "compute": computed - read, "write": written - computed,
        "cpu": time.process_time(), "peak": peak,
    }  # fmt: skip


def bench(scale: int) -> dict[str, float]:
    """Write the answers of one scale to a temporary folder and measure them in a new process."""
    size = Size(questions=200 * scale)
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), size)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, __file__, "--measure", name], check=True, stdout=subprocess.PIPE, text=True
        )
        total = time.perf_counter() - started
    figures: dict[str, float] = json.loads(done.stdout)
    stages = figures["read"] + figures["compute"] + figures["write"]
    return figures | {"total": total, "start": total - stages, "answers": size.answers}


def main() -> None:
    """Measure the scales that were asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", default="1,4,16", help="multiples of 200 questions, separated by commas")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure)))
        return
    size = Size()
    print(f"safescale analyze: {size.models} models x {len(CONDITIONS)} conditions x 200 questions x scale, seconds")
    print("".join(f"{column:>12}" for column in COLUMNS))
    for scale in (int(text) for text in arguments.scales.split(",")):
        row = bench(scale)
        numbers = [f"{row[stage]:.2f}" for stage in ("start", "read", "compute", "write", "total", "cpu")]
        rate = f"{row['answers'] / row['total']:,.0f}"
        cells = [f"{scale}x", f"{row['answers']:,.0f}", *numbers, rate, f"{row['peak'] / 1e6:.0f}"]
        print("".join(f"{cell:>12}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()

"""Each service of the grid: seconds from the start of its process until it serves, and its memory when idle.

    python bench/bench_start.py [--rounds 5] [--idle-s 10]

The others and the stores run already. Told are wall seconds until gRPC health says SERVING, asked every 20 ms, and the
processor seconds until then, which are the wall seconds of a machine that has nothing else to do. One start of each
comes first and does not count: it writes the bytecode that is missing. Memory is resident (RSS) after the idle time, in
the environment of this checkout, which holds more packages than an image does.
"""

import argparse
import os
import statistics
import time

from grid_processes import SERVICES, Grid, cpu_s, memory_mb, stores


def start(grid: Grid, name: str) -> tuple[float, float]:
    """Start a service anew; wall and processor seconds until it serves."""
    grid.stop(name)
    begin = time.monotonic()
    grid.launch(name)
    grid.wait(name, pause_s=0.02)
    return time.monotonic() - begin, cpu_s(grid.processes[name].pid)


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle-s", type=float, default=10.0)
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with stores() as found, Grid(found) as grid:
        turns: dict[str, list[tuple[float, float]]] = {name: [] for name in SERVICES}
        for number in range(args.rounds + 1):
            for name in SERVICES:
                turn = start(grid, name)
                if number:
                    turns[name].append(turn)
        time.sleep(args.idle_s)
        print(f"medians (best) of {args.rounds} starts")
        for name, each in turns.items():
            wall, cpu = [turn[0] for turn in each], [turn[1] for turn in each]
            print(
                f"{name:14} serves after {statistics.median(wall):5.2f} ({min(wall):5.2f}) s,"
                f" CPU {statistics.median(cpu):5.2f} ({min(cpu):5.2f}) s,"
                f" idle memory {memory_mb(grid.processes[name].pid):4.0f} MB"
            )


if __name__ == "__main__":
    main()

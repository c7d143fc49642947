"""Seconds to read hostile input of each kind up to the limit of its way in, and whether they grow with its length.

    python bench/bench_parsing.py [--kinds NAME,...] [--share 0.25]

Each kind is read at a quarter, a half and the whole of its limit (times --share). Where twice the input takes more than
three times as long, the line says so and the exit code is 1: reading that input is not linear.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from safescale.core.decisions.policy_file import parse_policy
from safescale.core.errors import SafescaleError
from safescale.core.inputs.corpus import check_corpus
from safescale.core.inputs.records import Source
from safescale.core.safety.answers.explicit import parse_explicit
from safescale.core.safety.answers.explicit.text import MAX_CHARACTERS
from safescale.core.safety.benchmark.formats import check_benchmark
from safescale.core.safety.metrics import METRIC_NAMES
from safescale.formats.run_spec import parse_run_file
from safescale.runtime.files.reading import parse_json, parse_yaml

MIB = 1024 * 1024
UPLOAD, SPEC = 32 * MIB, 1 * MIB
"""Limits of uploads and of specs."""

WORST = 3.0
NOISE_S = 0.2
"""Seconds below which a ratio says nothing."""

QUESTION = (
    '{"question_id": "%s", "question_text": "Which?", "options": {"A": "x", "B": "y"}, "correct_answer": "A"%s}\n'
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of input: how it is made for a number of bytes, how it is read, and its limit in bytes."""

    make: Callable[[int], str]
    read: Callable[[bytes], object]
    limit: int


def repeated(piece: Callable[[int], str], size: int, begin: str = "", end: str = "") -> str:
    """`begin`, numbered pieces until there are `size` characters, `end`."""
    length = len(piece(size))
    return begin + "".join(piece(number) for number in range(max(1, size // length))) + end


def benchmark(data: bytes) -> object:
    """Read a benchmark."""
    return check_benchmark("b", [Source("b", data)])


def corpus(data: bytes) -> object:
    """Read a corpus."""
    return check_corpus([Source("c", data)])


def yaml(data: bytes) -> object:
    """Read a YAML document and judge it as a policy."""
    return parse_policy(parse_yaml(Source("y", data)), "y", METRIC_NAMES)


def policy(data: bytes) -> object:
    """Read a JSON document and judge it as a policy."""
    return parse_policy(parse_json(Source("y", data)), "y", METRIC_NAMES)


def spec(data: bytes) -> object:
    """Read a run spec in YAML."""
    return parse_run_file(Source("s", data))


def json_spec(data: bytes) -> object:
    """Read a run spec in JSON."""
    return parse_run_file(Source("s", data), json=True)


def answer(data: bytes) -> object:
    """Read a model's answer."""
    return parse_explicit(data.decode(), {"A": "Kerley B lines", "B": "Deep sulcus sign", "C": "Air crescent sign"})


def keys(number: int) -> str:
    """One more key of a JSON object."""
    return f', "key{number:08d}": 1'


def unknown_keys(size: int) -> str:
    """One record with as many unknown keys as fit."""
    return QUESTION % ("q", repeated(keys, size))


KINDS = {
    "jsonl unknown keys": Kind(unknown_keys, benchmark, UPLOAD),
    "jsonl unknown keys over lines": Kind(
        lambda size: "[" + unknown_keys(size).replace(", ", ",\n").rstrip() + "]", benchmark, UPLOAD
    ),
    "jsonl repeated keys": Kind(lambda size: "{" + repeated(keys, size, '"a": 1', ', "a": 2}'), benchmark, UPLOAD),
    "jsonl many options": Kind(
        lambda size: QUESTION.replace('"B": "y"', '"B": "y"' + repeated(keys, size)) % ("q", ""), benchmark, UPLOAD
    ),
    "jsonl many labels": Kind(
        lambda size: QUESTION % ("q", repeated(keys, size, ', "labels": {"A": 1', "}")), benchmark, UPLOAD
    ),
    "jsonl one id": Kind(lambda size: repeated(lambda _: QUESTION % ("q", ""), size), benchmark, UPLOAD),
    "jsonl broken lines": Kind(lambda size: repeated(lambda _: '{"a": \n', size), benchmark, UPLOAD),
    "jsonl nested": Kind(lambda size: "[" * size, benchmark, UPLOAD),
    "jsonl bytes that are no UTF-8": Kind(lambda size: "\udcff\n" * (size // 2), benchmark, UPLOAD),
    "json array of numbers": Kind(lambda size: repeated(lambda n: f"{n % 10},\n", size, "[", "0]"), benchmark, UPLOAD),
    "json one huge id": Kind(lambda size: QUESTION % ("q" * size, ""), benchmark, UPLOAD),
    "csv many columns": Kind(
        lambda size: repeated(lambda n: f",c{n:07d}", size // 2, "question_id") + "\nq" + "," * (size // 9),
        benchmark, UPLOAD,
    ),
    "csv one column many times": Kind(lambda size: "question_id" + ",a" * (size // 2), benchmark, UPLOAD),
    "csv rows with a flag column alone": Kind(
        lambda size: "question_id,option_A,option_B,correct_answer,unsafe\n" + "q,x,y,A,Z\n" * (size // 10),
        benchmark, UPLOAD,
    ),
    "corpus one id": Kind(lambda size: repeated(lambda _: '{"id": "a", "text": "t"}\n', size), corpus, UPLOAD),
    "corpus control characters": Kind(lambda size: '{"id": "a", "text": "\\u0000"}\n' * (size // 30), corpus, UPLOAD),
    "yaml keys": Kind(lambda size: repeated(lambda n: f"key{n:07d}: 1\n", size), yaml, SPEC),
    "yaml keys in a flow": Kind(lambda size: repeated(lambda n: f"k{n:07d}: 1, ", size, "{", "}"), yaml, SPEC),
    "yaml list": Kind(lambda size: "- a\n" * (size // 4), yaml, SPEC),
    "yaml nested": Kind(lambda size: "[" * size, yaml, SPEC),
    "yaml anchors": Kind(lambda size: repeated(lambda n: f"- &a{n:07d} x\n", size), yaml, SPEC),
    "yaml merges": Kind(
        lambda size: "a: &a {x: 1}\n" + repeated(lambda n: f"k{n:07d}: {{<<: *a}}\n", size), yaml, SPEC
    ),
    "yaml one huge text": Kind(lambda size: "a: " + "x" * size, yaml, SPEC),
    "yaml one huge text over lines": Kind(lambda size: "a:\n" + "  x\n" * (size // 4), yaml, SPEC),
    "yaml quoted escapes": Kind(lambda size: 'a: "' + "\\x41" * (size // 4) + '"', yaml, SPEC),
    "yaml comments": Kind(lambda size: "#\n" * (size // 2), yaml, SPEC),
    "json policy keys": Kind(lambda size: "{" + repeated(keys, size, '"a": 1', "}"), policy, SPEC),
    "json policy one huge key": Kind(lambda size: '{"%s": 1}' % ("requirement" * (size // 11)), policy, SPEC),
    "spec unknown keys": Kind(lambda size: repeated(lambda n: f"key{n:07d}: 1\n", size), spec, SPEC),
    "spec models that are none": Kind(lambda size: "models:\n" + "- 1\n" * (size // 4), spec, SPEC),
    "json spec unknown keys": Kind(lambda size: "{" + repeated(keys, size, '"a": 1', "}"), json_spec, UPLOAD),
    "json spec repeated keys": Kind(lambda size: "{" + repeated(keys, size, '"a": 1', ', "a": 2}'), json_spec, UPLOAD),
    "answer of 1 MiB": Kind(lambda size: "The answer is B. " * (size // 17), answer, MIB),
    "answer of labels": Kind(lambda size: "answer is " * (size // 10), answer, MAX_CHARACTERS),
    "answer of labels over lines": Kind(lambda size: "Answer:\n" * (size // 8), answer, MAX_CHARACTERS),
    "answer of statements": Kind(lambda size: "The answer is B. " * (size // 17), answer, MAX_CHARACTERS),
    "answer of letters": Kind(lambda size: "A B " * (size // 4), answer, MAX_CHARACTERS),
    "answer of list entries": Kind(lambda size: "A) x\nB) y\n" * (size // 10), answer, MAX_CHARACTERS),
    "answer of options": Kind(lambda size: "Deep sulcus sign " * (size // 17), answer, MAX_CHARACTERS),
    "answer of brackets": Kind(lambda size: "(" * size, answer, MAX_CHARACTERS),
    "answer of boxes": Kind(lambda size: "\\boxed{" * (size // 7), answer, MAX_CHARACTERS),
    "answer of blanks": Kind(lambda size: "B" + " " * size, answer, MAX_CHARACTERS),
    "answer of nested JSON": Kind(lambda size: '{"a":' * (size // 5), answer, MAX_CHARACTERS),
    "answer of combining marks": Kind(lambda size: "a" + "\u0315\u0300" * (size // 4), answer, MAX_CHARACTERS),
}  # fmt: skip


def seconds(kind: Kind, size: int) -> float:
    """Processor seconds to read the input of a size, the better of two."""
    data = kind.make(size).encode(errors="surrogateescape")
    times = []
    for _ in range(2):
        started = time.process_time()
        with contextlib.suppress(SafescaleError):
            kind.read(data)
        times.append(time.process_time() - started)
    return min(times)


def main() -> None:
    """Read each kind at three sizes and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="", help="names of kinds, separated by commas; all when left out")
    parser.add_argument("--share", type=float, default=1.0, help="share of each limit that is the largest size")
    arguments = parser.parse_args()
    wanted = [name for name in arguments.kinds.split(",") if name] or list(KINDS)
    print(f"{'kind':<36}{'MiB':>7}{'1/4':>9}{'1/2':>9}{'1/1':>9}{'worst ratio':>13}")
    bent = []
    for name in wanted:
        kind = KINDS[name]
        largest = int(kind.limit * arguments.share)
        times = [seconds(kind, largest // part) for part in (4, 2, 1)]
        ratio = max((b / a for a, b in pairwise(times) if b > NOISE_S and a > 0), default=0.0)
        told = f"{ratio:.1f}" if ratio else "-"
        print(f"{name:<36}{largest / MIB:>7.2f}" + "".join(f"{t:>9.2f}" for t in times) + f"{told:>13}", flush=True)
        if ratio > WORST:
            bent.append(name)
    if bent:
        print(f"not linear: {', '.join(bent)}")
        sys.exit(1)


if __name__ == "__main__":
    main()

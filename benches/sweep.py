#!/usr/bin/env python3
"""Measures a sweep over the codes of all rows beside flat scans of faiss, by one thread, and prints the tables of
"A sweep beside a flat scan" in docs/benchmarks.md.

usage: eval "$(scripts/env.sh)" && scripts/setup.sh bench && "$S3VECTOR_PYTHON" benches/sweep.py [--rows N]
"""

import argparse
import statistics
import subprocess
import time
from pathlib import Path

import faiss
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DIMENSIONS = 384
KEPT = 1000
REPEATS = 15
BLOCK = 50_000
COLUMNS = ("dimensions", "bits", "metric", "level", "what", "rows", "stride", "least", "median")


def sweeps():
    """What crates/rabitq/benches/sweep.rs measures: a dictionary of values for each case."""
    command = ("cargo", "bench", "--quiet", "-p", "s3vector-rabitq", "--bench", "sweep")
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    cases = [dict(zip(COLUMNS, line.split("\t"))) for line in output.splitlines() if "\t" in line]
    return {(int(case["dimensions"]), int(case["bits"]), case["metric"], case["level"], case["what"]): case
            for case in cases}


def milliseconds(case):
    """The least and the median for a million rows: nanoseconds a row."""
    return float(case["least"]), float(case["median"])


def flat_scans(rows):
    """The least and the median in milliseconds of finding the thousand nearest rows, by index."""
    faiss.omp_set_num_threads(1)
    d, sq = DIMENSIONS, faiss.ScalarQuantizer
    makers = {
        "IndexFlatL2": lambda: faiss.IndexFlatL2(d),
        "IndexFlatIP": lambda: faiss.IndexFlatIP(d),
        "IndexScalarQuantizer, 8 bits": lambda: faiss.IndexScalarQuantizer(d, sq.QT_8bit, faiss.METRIC_L2),
        "IndexScalarQuantizer, 4 bits": lambda: faiss.IndexScalarQuantizer(d, sq.QT_4bit, faiss.METRIC_L2),
    }
    found = {}
    for name, make in makers.items():
        random = np.random.default_rng(1)
        index = make()
        for first in range(0, rows, BLOCK):
            block = random.standard_normal((min(BLOCK, rows - first), d), dtype=np.float32)
            if not index.is_trained:
                index.train(block)
            index.add(block)
        query = random.standard_normal((1, d), dtype=np.float32)
        times = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            index.search(query, KEPT)
            times.append((time.perf_counter() - begin) * 1e3)
        found[name] = (min(times), statistics.median(times))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the flat scans")
    options = parser.parse_args()
    cases = sweeps()
    levels = [level for level in ("Avx512", "Neon", "Avx2", "Plain") if any(key[3] == level for key in cases)]

    print(f"| {DIMENSIONS} dimensions, a million rows | bytes a row | least, ms | median |")
    print("|---|---|---|---|")
    for what, title in (("bounds", "bounds written"), ("least", "and the thousand least kept")):
        for level in levels:
            case = cases[DIMENSIONS, 4, "l2", level, what]
            least, median = milliseconds(case)
            print(f"| 4-bit codes, {title}, {level} | {case['stride']} | {least:.1f} | {median:.1f} |")
    sizes = (4 * DIMENSIONS, 4 * DIMENSIONS, DIMENSIONS, DIMENSIONS // 2)
    for (name, times), size in zip(flat_scans(options.rows).items(), sizes):
        least, median = (value * 1e6 / options.rows for value in times)
        print(f"| faiss {faiss.__version__} {name} | {size} | {least:.1f} | {median:.1f} |")

    print()
    metrics = ("l2", "ip")
    heads = [f"{level}, {metric}" for level in levels for metric in metrics]
    print("| dimensions | bits | bytes | " + " | ".join(heads) + " |")
    print("|---|---|---|" + "---|" * len(heads))
    for dimensions, bits in sorted({key[:2] for key in cases}):
        row = [cases[dimensions, bits, metric, level, "bounds"] for level in levels for metric in metrics]
        values = " | ".join(f"{float(case['least']):.1f}" for case in row)
        print(f"| {dimensions} | {bits} | {row[0]['stride']} | {values} |")


if __name__ == "__main__":
    main()

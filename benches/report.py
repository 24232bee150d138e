#!/usr/bin/env python3
"""Writes the results of a run as a table of ratios. Absolute figures belong to one machine and one hour, so they stay
in the JSON file; a ratio is of values measured one after the other.

usage: report.py RESULTS.json        prints the table of a run again
"""

import json
import math
import statistics
import sys
from pathlib import Path

import ratios

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
TITLES = {"pgvector": "pgvector hnsw", "vchordrq": "VectorChord vchordrq", "diskann": "pgvectorscale diskann",
          "faiss": "faiss HNSW SQ8 in the process"}


def times(values, sign=""):
    return f"{sign}{statistics.median(values):.2f}× ({min(values):.2f}–{max(values):.2f})"


def searched(ours, theirs, wanted):
    """The ratio of two systems' rates at a recall."""
    found = ratios.compared(ours, theirs, wanted)
    return times(*found) if found else "one of them does not find as much"


def lines(results):
    """What was measured, beside what, and the ratio."""
    for measured in results["sets"].values():
        yield from search_lines(measured)
        yield from write_lines(measured)
    if "cold" in results:
        yield from cold_lines(results["cold"])
    if "growth" in results:
        yield from growth_lines(results["growth"])


def search_lines(measured):
    systems, title = measured["systems"], measured["title"]
    ours = systems["s3vector"]["points"]
    pinned = ratios.pinned(ours)
    for wanted in ratios.RECALLS:
        what = f"queries/s at recall {wanted}, {title}"
        for peer, name in TITLES.items():
            if peer in systems:
                theirs = systems[peer]["points"]
                yield what, name, searched(ours, theirs, wanted)
                yield f"{what}, on one processor", name, searched(pinned, ratios.pinned(theirs), wanted)
            elif peer == "vchordrq":
                yield what, name, "not installed"
    wanted = ratios.RECALLS[0]
    for where, points, floor in (("", ours, "floor"), (", on one processor", pinned, "pinned_floor")):
        rates = [ratios.at_recall(points, wanted, repeat) for repeat in range(len(measured[floor]))]
        if None not in rates:
            yield (f"queries/s at recall {wanted}, {title}{where}", "a row by primary key",
                   times(ratios.paired(rates, measured[floor])))
    for system, values in systems.items():
        if "two_clients" in values:
            pair = values["two_clients"]
            yield (f"queries/s of two clients, {title}, {system}, {pair['setting']}", "one client",
                   times(ratios.paired(pair["two"], pair["one"])))


def write_lines(measured):
    systems, title = measured["systems"], measured["title"]
    ours = systems["s3vector"]
    for peer, name in TITLES.items():
        if peer in systems:
            yield f"build rate, {title}", name, times(ratios.paired(ours["build"], systems[peer]["build"]))
    for peer, name in TITLES.items():
        if "bytes_a_row" in systems.get(peer, {}):
            yield f"memory a row, {title}", name, f"1 / {systems[peer]['bytes_a_row'] / ours['bytes_a_row']:.2f}"
    copied = measured.get("copy", {})
    for peer, name in TITLES.items():
        if peer in copied:
            yield f"COPY into the indexed table, {title}", name, times(ratios.paired(copied["s3vector"], copied[peer]))
    for system, rates in copied.items():
        if system != "no index":
            yield (f"COPY into a table that {system} indexes, {title}", "a table without index",
                   times(ratios.paired(rates, copied["no index"])))


def cold_lines(cold):
    """Medians and 95th percentiles of queries in units of the median of the requests between them."""
    for setting, point in cold["points"].items():
        for part in ("p50", "p95"):
            yield (f"time of a cold query, {part}, {setting}, recall {point['recall']:.3f}", "one ranged GET",
                   times(ratios.paired(point[part], point["request"])))


def growth_lines(growth):
    """From each number of rows to the next, beside what log n makes of it."""
    sizes, recall = growth["sizes"], growth["recall"]
    for system, measured in growth["systems"].items():
        for small, large in zip(sizes, sizes[1:]):
            if str(large) not in measured:
                continue
            few, many = measured[str(small)], measured[str(large)]
            what, beside = f"{system}, {large:,} rows", f"{small:,} rows"
            by_log = f" (log n: {math.log(small) / math.log(large):.2f}×)"
            yield (f"queries/s at recall {recall}, {what}", beside,
                   searched(many["points"], few["points"], recall) + by_log)
            yield f"build rate, {what}", beside, times(ratios.paired(many["build"], few["build"])) + by_log
            yield f"memory a row, {what}", beside, f"{many['bytes_a_row'] / few['bytes_a_row']:.2f}×"


def table(results):
    rows = "".join(f"| {what} | {beside} | {ratio} |\n" for what, beside, ratio in lines(results))
    return f"| s3vector's, unless said otherwise | over that of | median (lowest–highest) |\n|---|---|---|\n{rows}"


def set_sizes(results):
    return "; ".join(
        f"{measured['title']}: {measured['rows']:,} × {measured['dimensions']}, {measured['queries']:,} queries"
        for measured in results["sets"].values())


def closeness(results):
    """A sentence on how the grown rows compare with the real ones."""
    if "growth" not in results:
        return ""
    found = results["growth"]["closeness"]
    real, grown = found["real"], found["grown"]
    return (
        f"The rows of the growth series are grown out of the WordNet set (`benches/series.py`): a real row, moved part "
        f"of the way to one of its neighbours and by a random mixture of the differences to all of them. Of "
        f"{found['rows']:,} such rows the 1st and the 10th neighbour of a query lie at {grown['first']:.2f} and "
        f"{grown['tenth']:.2f} of the mean distance of two rows, {real['first']:.2f} and {real['tenth']:.2f} in the "
        f"real set, and neighbours spread over {grown['dimensions']:.1f} dimensions, {real['dimensions']:.1f} in the "
        f"real set.\n")


def section(results, figures):
    """What stands between the marks in docs/benchmarks.md."""
    about = results["about"]
    pictures = "".join(f"![{title}]({path})\n\n" for title, path in figures)
    return (
        f"One run on {about['cores']} cores ({about['processor']}), {about['versions']}; {set_sizes(results)}; k = 10, "
        f"cosine, m = 16, ef_construction = 64, everything in memory, {about['repeats']} repeats. Each ratio is of "
        f"values measured one after the other; ≥ or ≤ where the fastest setting of one side finds more than was asked "
        f"for. The absolute figures are in [results.json](benchmarks/results.json).\n\n"
        f"{table(results)}\n{closeness(results)}\n{pictures}")


def write_section(path, content):
    """Puts `content` between the marks."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path} has no lines {BEGIN} and {END}")
    path.write_text(f"{before}{BEGIN}\n{content.strip()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip().rpartition("\n")[2])
    print(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))

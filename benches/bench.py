#!/usr/bin/env python3
"""Measures s3vector beside pgvector's hnsw (and VectorChord and pgvectorscale where they are installed) and beside a
library in the process, in one run on one machine. Run by `make bench`, see scripts/bench.sh.

All indexes exist at once, each on its own copy of the table, and are measured in turn: setting by setting, repeat by
repeat. A machine that is slower for a while is slower for all of them, and the ratios of a repeat hold.

usage: bench.py --folder FOLDER --node-modules FOLDER --proxy PROGRAM [--data FOLDER] [--quick]
                [--only wordnet,glove,cold,growth] [--no-large-peer] [--seconds N]
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

import cold
import common
import data
import plots
import ratios
import report
import series
import servers
from common import say
from limit import Faiss
from measure import Indexed
from systems import PGVECTOR, PLAIN, S3VECTOR, available

PARTS = ("wordnet", "glove", "cold", "growth")
LATENCY = 30
# Where one recall is enough.
RECALL = ratios.RECALLS[0]
# Rows from which on pgvector's build takes many minutes, and the machine needs much memory.
LARGE = 1_000_000
LARGE_MEMORY = 20 << 30


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rows: int
    queries: int
    seconds: int
    repeats: int
    every: int  # of the settings, one in so many is measured
    copy_rows: int
    slow_copy_rows: int
    sizes: tuple
    cold_rows: int
    cold_queries: int
    cold_efs: tuple
    shared_buffers: str
    cache_size: str
    work_memory: str


FULL = Plan(rows=100_000, queries=500, seconds=3, repeats=3, every=1, copy_rows=10_000, slow_copy_rows=1500,
            sizes=(10_000, 100_000, LARGE), cold_rows=100_000, cold_queries=200, cold_efs=(20, 40, 100),
            shared_buffers="8GB", cache_size="3GB", work_memory="4GB")
QUICK = Plan(rows=20_000, queries=500, seconds=1, repeats=2, every=2, copy_rows=2000, slow_copy_rows=500,
             sizes=(1000, 5000, 20_000), cold_rows=20_000, cold_queries=40, cold_efs=(20, 40, 100),
             shared_buffers="1GB", cache_size="512MB", work_memory="1GB")


class Bench:
    def __init__(self, options):
        self.options = options
        self.plan = QUICK if options.quick else FULL
        if options.seconds:
            self.plan = replace(self.plan, seconds=options.seconds)
        self.cached = options.folder / "data"
        self.cached.mkdir(parents=True, exist_ok=True)
        self.real = self.read_real()
        self.postgres = self.systems = None

    def read_real(self):
        """Base and queries of the real set; everything else of 384 dimensions is made of it."""
        if self.options.data:
            base, queries = data.read_wordnet(self.options.data)
        elif self.options.quick:
            base, queries = data.sample(self.plan.queries)
        else:
            base, queries = data.made_wordnet(self.options.node_modules, self.cached)
        return base[: self.plan.rows], queries[: self.plan.queries]

    def run(self):
        results = {"sets": {}}
        run = self.options.folder / "run"
        settings = {
            "shared_buffers": self.plan.shared_buffers, "s3vector.cache_size": self.plan.cache_size,
            "max_wal_size": "8GB", "autovacuum": "off", "jit": "off"}
        if {"wordnet", "glove", "growth"} & self.options.only:
            with servers.postgres(run / "postgres", settings) as self.postgres:
                connection = self.postgres.connect()
                connection.execute("CREATE EXTENSION pg_prewarm")
                self.systems = available(connection)
                results["about"] = self.about(connection)
                say(f"{results['about']['versions']}")
                if "wordnet" in self.options.only:
                    base, queries = self.real
                    results["sets"]["wordnet"] = self.compare(
                        data.dataset("wordnet", "WordNet/MiniLM", base, queries), copy=True)
                if "glove" in self.options.only:
                    base, queries = data.glove(
                        self.options.node_modules, self.cached, self.plan.rows, self.plan.queries)
                    results["sets"]["glove"] = self.compare(data.dataset("glove", "GloVe", base, queries), copy=False)
                if "growth" in self.options.only:
                    results["growth"] = self.growth()
        if "cold" in self.options.only:
            results["cold"] = self.cold(run)
        return results

    def about(self, connection):
        server = connection.execute("SHOW server_version").fetchone()[0].split()[0]
        installed = dict(connection.execute("SELECT extname, extversion FROM pg_extension"))
        names = {system.extension: system.name for system in self.systems}
        versions = [f"PostgreSQL {server}", *(f"{name} {installed[extension]}" for extension, name in names.items()),
                    f"faiss {version('faiss-cpu')}"]
        return {"cores": len(os.sched_getaffinity(0)), "processor": processor(), "versions": ", ".join(versions),
                "repeats": self.plan.repeats, "seconds_a_point": self.plan.seconds, "quick": self.options.quick}

    # ---- one data set, all systems ----------------------------------------------------------

    def compare(self, dataset, copy):
        say(f"{dataset.title}: {len(dataset.base):,} rows of {dataset.dimensions} dimensions")
        self.load_queries(dataset)
        indexed = [Indexed(self.postgres, system, dataset, self.plan.work_memory) for system in self.systems]
        limit = Faiss(dataset)
        competitors = [*indexed, limit]
        measured = {each.name: {"build": [], "points": []} for each in competitors}
        for repeat in range(self.plan.repeats):
            for each in competitors:
                measured[each.name]["build"].append(each.build())
            self.tell("CREATE INDEX, rows/s", repeat, {name: found["build"][-1] for name, found in measured.items()})
        for each in indexed:
            each.warm()
            measured[each.name]["bytes_a_row"] = each.bytes_a_row()
        for each in competitors:
            measured[each.name]["points"] = points = self.recalls(each)
            say(f"recall of {each.name}: {points[0]['recall']:.3f} to {points[-1]['recall']:.3f}")
        columns = [measured[each.name]["points"] for each in competitors]
        self.rates(competitors, columns)
        with self.postgres.one_processor():
            self.rates(competitors, [ratios.around(points, *ratios.RECALLS) for points in columns], "pinned")
            pinned_floor = [indexed[0].floor(self.plan.seconds) for _ in range(self.plan.repeats)]
        floor = self.clients(indexed, measured)
        result = {"title": dataset.title, "rows": len(dataset.base), "dimensions": dataset.dimensions,
                  "queries": len(dataset.queries), "systems": measured, "floor": floor, "pinned_floor": pinned_floor}
        if copy:
            result["copy"] = self.copy(dataset, indexed)
        for each in indexed:
            each.drop()
        return result

    def load_queries(self, dataset):
        with self.postgres.connect() as connection:
            common.create_table(connection, f"{dataset.name}_queries", dataset.queries)

    def recalls(self, each):
        """A point for every setting, whose rates are to be measured."""
        return [{"setting": setting, "recall": each.recall(setting), "rates": []}
                for setting in each.settings[:: self.plan.every]]

    def rates(self, competitors, columns, key="rates"):
        """Settings of the systems, a column of points each, in turn, so that what is compared lies close together in
        time. A point keeps its rates under `key`."""
        for repeat in range(self.plan.repeats):
            for row in itertools.zip_longest(*columns):
                told = {}
                for each, point in zip(competitors, row):
                    if point:
                        point.setdefault(key, []).append(each.rate(point["setting"], self.plan.seconds))
                        told[f"{each.name} {point['setting']}"] = point[key][-1]
                self.tell("queries/s" if key == "rates" else f"queries/s, {key}", repeat, told)

    def clients(self, indexed, measured):
        """One client beside two, where recall is nearest 0.95; and queries by primary key, which are returned."""
        floor = []
        for each in indexed:
            setting = ratios.nearest(measured[each.name]["points"], RECALL)["setting"]
            measured[each.name]["two_clients"] = {"setting": setting, "one": [], "two": []}
        for repeat in range(self.plan.repeats):
            told = {}
            for each in indexed:
                pair = measured[each.name]["two_clients"]
                pair["one"].append(each.rate(pair["setting"], self.plan.seconds))
                pair["two"].append(each.rate(pair["setting"], self.plan.seconds, clients=2))
                told |= {f"{each.name}, one client": pair["one"][-1], "two": pair["two"][-1]}
                self.tell("queries/s", repeat, told)
                told = {}
            floor.append(indexed[0].floor(self.plan.seconds))
            self.tell("queries/s", repeat, {"by primary key": floor[-1]})
        return floor

    def copy(self, dataset, indexed):
        """COPY of rows like those of the set, which none of them equals."""
        rows, _ = self.grown()
        plain = Indexed(self.postgres, PLAIN, dataset, self.plan.work_memory)
        tables = [plain, *indexed]
        counts = {each.name: self.plan.slow_copy_rows if each.system.slow_insert else self.plan.copy_rows
                  for each in tables}
        texts = {count: common.lines(rows[:count].astype(np.float32), len(dataset.base))
                 for count in set(counts.values())}
        rates = {each.name: [] for each in tables}
        for repeat in range(self.plan.repeats):
            for each in tables:
                rates[each.name].append(each.copy(texts[counts[each.name]], counts[each.name]))
            self.tell("COPY, rows/s", repeat, {name: found[-1] for name, found in rates.items()})
        plain.drop()
        return rates

    def grown(self):
        """Rows for COPY and for the growth series, and queries."""
        base, queries = self.real
        return series.grown(base, queries, max(*self.sizes(), len(base)), self.cached)

    # ---- growth with the rows ---------------------------------------------------------------

    def growth(self):
        base, queries = self.real
        sizes = self.sizes()
        rows, grown_queries = self.grown()
        if len(sizes) < len(self.plan.sizes):
            say(f"this machine has too little memory for {LARGE:,} rows: measuring fewer")
        say("comparing the grown rows with the real ones")
        result = {"recall": RECALL, "sizes": sizes, "closeness": series.closeness(base, queries, rows, grown_queries)}
        indexed = {}
        for size in sizes:
            dataset = data.dataset(f"rows_{size}", f"{size:,} rows", rows[:size], grown_queries)
            self.load_queries(dataset)
            for system in (S3VECTOR, PGVECTOR):
                if not (system is PGVECTOR and size >= LARGE and self.options.no_large_peer):
                    indexed[system.name, size] = Indexed(self.postgres, system, dataset, self.plan.work_memory)
        measured = {key: {"build": []} for key in indexed}
        for repeat in range(self.plan.repeats):
            for (name, size), each in indexed.items():
                # Once is enough of a build that takes minutes, and of what is measured elsewhere.
                once = size >= LARGE or name == PGVECTOR.name
                measured[name, size]["build"].append(None if once and repeat else each.build())
            self.tell("CREATE INDEX, rows/s", repeat, {
                f"{name} {size:,}": found["build"][-1] for (name, size), found in measured.items()})
        for key, each in indexed.items():
            each.warm()
            measured[key]["bytes_a_row"] = each.bytes_a_row()
            measured[key]["points"] = ratios.around(self.recalls(each), RECALL)
            say(f"{key[0]}, {key[1]:,} rows: {measured[key]['points'][-1]['setting']} for recall {RECALL}")
        for repeat in range(self.plan.repeats):
            for key, each in indexed.items():
                for point in measured[key]["points"]:
                    point["rates"].append(each.rate(point["setting"], self.plan.seconds))
            self.tell("queries/s", repeat, {
                f"{name} {size:,}": found["points"][-1]["rates"][-1] for (name, size), found in measured.items()})
        for each in indexed.values():
            each.drop()
        result["systems"] = {}
        for (name, size), found in measured.items():
            result["systems"].setdefault(name, {})[str(size)] = found
        return result

    def sizes(self):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return [size for size in self.plan.sizes if size < LARGE or memory >= LARGE_MEMORY]

    # ---- cold queries -----------------------------------------------------------------------

    def cold(self, run):
        base, queries = self.real
        dataset = data.dataset("cold", "WordNet/MiniLM", base[: self.plan.cold_rows],
                               queries[: self.plan.cold_queries])
        say(f"cold queries: {len(dataset.base):,} rows on an S3 server {LATENCY} ms away")
        points = {}
        with cold.running(run, self.options.proxy, LATENCY, dataset) as bench:
            for repeat in range(self.plan.repeats):
                for ef in self.plan.cold_efs:
                    bench.search(ef)
                    found = bench.beside_request()
                    point = points.setdefault(f"ef {ef}", {"recall": found["cold"]["recall"], "request": [],
                                                           "p50": [], "p95": [], "requests": [], "bytes": []})
                    point["request"].append(found["request"]["p50"])
                    for part in ("p50", "p95"):
                        point[part].append(found["cold"][part])
                    for part in ("requests", "bytes"):
                        point[part].append(found["cold"][part]["mean"])
                self.tell("cold query, p50 in ms", repeat, {
                    setting: point["p50"][-1] for setting, point in points.items()})
        return {"rows": len(dataset.base), "queries": len(dataset.queries), "latency_ms": LATENCY, "points": points}

    def tell(self, what, repeat, values):
        told = ", ".join(f"{name} {value:,.0f}" for name, value in values.items() if value is not None)
        say(f"{what}, repeat {repeat + 1} of {self.plan.repeats}: {told}")


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


def write(results, options):
    """The docs, by a whole run; a quick one and a part leave them alone."""
    docs = servers.ROOT / "docs"
    whole = not options.quick and options.only == set(PARTS)
    folder = docs / "benchmarks" if whole else options.folder / ("quick" if options.quick else "part")
    # Figures of parts that this run did not measure would pass for its own.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    figures = [(title, f"benchmarks/{name}") for title, name in plots.draw(results, folder)]
    if whole:
        report.write_section(docs / "benchmarks.md", report.section(results, figures))
    print(f"\n{report.table(results)}\n{report.closeness(results)}\nresults and figures: {folder}")


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--node-modules", type=Path, required=True)
    parser.add_argument("--proxy", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=lambda text: set(text.split(",")), default=set(PARTS))
    parser.add_argument("--no-large-peer", action="store_true")
    parser.add_argument("--seconds", type=int, help="that pgbench runs for a point")
    given = parser.parse_args()
    if given.only - set(PARTS):
        parser.error(f"--only takes some of {', '.join(PARTS)}")
    return given


def main():
    given = options()
    # Ends as by Ctrl-C: servers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        write(Bench(given).run(), given)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

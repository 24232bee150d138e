#!/usr/bin/env python3
"""Measures s3vector beside pgvector's hnsw in one PostgreSQL cluster, on one data set, in one run.

For each index: build rate, then for each search setting recall@10 against exact answers and
queries a second (pgbench, prepared statements, answers from memory), and for s3vector what a query
with a cold cache fetches. Absolute figures belong to one machine and one hour; the ratios printed
at the end are what to quote.

Needs a running cluster with both extensions installed, psycopg and numpy. The server's
s3vector.cache_size should hold the payload for the warm part.

usage: peers.py --bin DIR --host SOCKET_DIR --port N --base base.npy --query query.npy
                [--metric l2|cosine|ip] [--rows N] [--repeats 3] [--seconds 3] [--out FILE.json]
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

import numpy as np
import psycopg

OPERATORS = {"l2": "<->", "cosine": "<=>", "ip": "<#>"}
SYSTEMS = {
    "pgvector": ("hnsw", "m = 16, ef_construction = 64", "hnsw.ef_search"),
    "s3vector": ("s3vector", "m = 16", "s3vector.ef_search"),
}
BEAMS = (20, 40, 80, 160, 320)
DATABASE = "s3vector_bench"


def text(vector):
    return "[" + ",".join(f"{x:.7g}" for x in vector) + "]"


def exact(base, queries, metric, k=10):
    """Row numbers of the k nearest, one line a query."""
    base, queries = np.asarray(base, np.float32), np.asarray(queries, np.float32)
    if metric == "cosine":
        base = base / np.linalg.norm(base, axis=1, keepdims=True)
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    score = -(queries @ base.T)
    if metric == "l2":
        score = (base * base).sum(1)[None] + 2 * score
    nearest = np.argpartition(score, k, axis=1)[:, :k]
    return nearest


class Bench:
    def __init__(self, options):
        self.options = options
        self.base = np.load(options.base, mmap_mode="r")[: options.rows or None]
        self.queries = np.load(options.query)[: options.queries].astype(np.float32)
        self.truth = exact(self.base, self.queries, options.metric)
        self.operator = OPERATORS[options.metric]
        self.connection = self.connect()
        self.load()

    def connect(self):
        where = f"host={self.options.host} port={self.options.port} user=postgres"
        with psycopg.connect(f"{where} dbname=postgres", autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {DATABASE}")
        connection = psycopg.connect(f"{where} dbname={DATABASE}", autocommit=True)
        connection.execute("CREATE EXTENSION s3vector CASCADE")
        return connection

    def load(self):
        dimensions = self.base.shape[1]
        for table, rows in (("items", self.base), ("queries", self.queries)):
            self.connection.execute(
                f"CREATE TABLE {table} (id int PRIMARY KEY, v vector({dimensions}))"
            )
            with self.connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                for number, vector in enumerate(rows):
                    copy.write(f"{number}\t{text(vector)}\n")
            self.connection.execute(f"ANALYZE {table}")
        self.connection.execute("SET maintenance_work_mem = '4GB'")
        self.connection.execute("SET enable_seqscan = off")

    def build(self, system):
        method, settings, _ = SYSTEMS[system]
        self.connection.execute("DROP INDEX IF EXISTS ix")
        self.connection.execute("CHECKPOINT")
        start = time.perf_counter()
        self.connection.execute(
            f"CREATE INDEX ix ON items USING {method} (v vector_{self.options.metric}_ops)"
            f" WITH ({settings})"
        )
        return len(self.base) / (time.perf_counter() - start)

    def sql(self, number):
        return (
            f"SELECT id FROM items ORDER BY v {self.operator} "
            f"(SELECT v FROM queries WHERE id = {number}) LIMIT 10"
        )

    def recall(self, system, beam):
        self.connection.execute(f"SET {SYSTEMS[system][2]} = {beam}")
        found = 0
        for number, truth in enumerate(self.truth):
            rows = self.connection.execute(self.sql(number)).fetchall()
            found += len({row[0] for row in rows} & set(truth.tolist()))
        return found / self.truth.size

    def throughput(self, system, beam):
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(f"\\set i random(0, {len(self.queries) - 1})\n{self.sql(':i')};\n")
            script.flush()
            os.chmod(script.name, 0o644)
            command = [f"{self.options.bin}/pgbench", "-n", "-M", "prepared", "-f", script.name,
                       "-c", "1", "-T", str(self.options.seconds), "-U", "postgres",
                       "-h", self.options.host, "-p", str(self.options.port), DATABASE]
            settings = f"-c enable_seqscan=off -c {SYSTEMS[system][2]}={beam}"
            output = subprocess.run(command, env={**os.environ, "PGOPTIONS": settings},
                                    capture_output=True, text=True, check=True).stdout
        return next(float(line.split()[2]) for line in output.splitlines()
                    if line.startswith("tps"))

    def cold(self):
        """What a query fetches whose chunks are not in the cache: counts, not times."""
        counts = []
        self.connection.execute("RESET s3vector.ef_search")
        for number in range(len(self.queries)):
            self.connection.execute(self.sql(number)).fetchall()
            row = self.connection.execute(
                "SELECT waves, requests, bytes, reranked, chunks_fetched, cache_hits"
                " FROM s3vector_last_scan()").fetchone()
            if row[5] == 0:
                counts.append(row)
            if len(counts) >= 100:
                break
        names = ("waves", "requests", "bytes", "rows", "chunks")
        return {name: {"mean": statistics.mean(column), "max": max(column)}
                for name, column in zip(names, zip(*counts))} if counts else {}

    def measure(self, system):
        result = {"build": [self.build(system)], "points": []}
        if system == "s3vector":
            # Right after the build nothing is cached.
            result["cold"] = self.cold()
            info = "SELECT resident_bytes::float8 / rows FROM s3vector_index_info('ix')"
            result["resident_bytes_a_row"] = self.connection.execute(info).fetchone()[0]
        for beam in BEAMS:
            point = {"beam": beam, "recall": self.recall(system, beam), "qps": []}
            result["points"].append(point)
        for _ in range(self.options.repeats):
            for point in result["points"]:
                point["qps"].append(self.throughput(system, point["beam"]))
        for _ in range(self.options.repeats - 1):
            result["build"].append(self.build(system))
        return result


def at_recall(points, wanted):
    """Queries a second at a recall, interpolated (log throughput) between measured points."""
    known = sorted((p["recall"], statistics.median(p["qps"])) for p in points)
    if wanted < known[0][0]:
        return known[0][1]
    if wanted > known[-1][0]:
        return None
    return float(np.exp(np.interp(wanted, [r for r, _ in known], [np.log(q) for _, q in known])))


def main():
    parser = argparse.ArgumentParser()
    for name in ("bin", "host", "base", "query"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", default="5432")
    parser.add_argument("--metric", default="cosine", choices=OPERATORS)
    parser.add_argument("--out")
    for name, default in (("rows", 0), ("queries", 500), ("repeats", 3), ("seconds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()

    bench = Bench(options)
    results = {}
    for system in SYSTEMS:
        results[system] = bench.measure(system)
        build = statistics.median(results[system]["build"])
        print(f"{system}: build {build:.0f} vectors/s", flush=True)
        for point in results[system]["points"]:
            low, high = min(point["qps"]), max(point["qps"])
            print(f"  beam {point['beam']:4d}  recall@10 {point['recall']:.4f}  "
                  f"{statistics.median(point['qps']):7.0f} queries/s  ({low:.0f} to {high:.0f})")
    print("cold cache, LIMIT 10:", json.dumps(results["s3vector"]["cold"]))
    print(f"resident: {results['s3vector']['resident_bytes_a_row']:.0f} bytes a row")
    ours, peer = results["s3vector"], results["pgvector"]
    ratio = statistics.median(ours["build"]) / statistics.median(peer["build"])
    print(f"build: {ratio:.1f} x pgvector")
    for wanted in (0.95, 0.98):
        mine, other = at_recall(ours["points"], wanted), at_recall(peer["points"], wanted)
        if mine and other:
            print(f"queries/s at recall {wanted}: {mine / other:.1f} x pgvector")
    if options.out:
        with open(options.out, "w") as out:
            json.dump(results, out, indent=1)


if __name__ == "__main__":
    main()

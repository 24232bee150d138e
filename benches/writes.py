#!/usr/bin/env python3
"""Measures writing: COPY into an indexed table beside the same table without an index, for one and for
several writers, as text or (--binary) in COPY's binary form; what rows that wait to be flushed cost a
query; how an index grows by flushes and merges. One cluster, one run; the ratios are what to quote.

Needs a running cluster with both extensions installed, psycopg and numpy.

usage: writes.py --host SOCKET_DIR --port N --base base.npy --query query.npy
                 [--rows 30000] [--writers 1,4] [--repeats 5] [--peer-rows 3000] [--binary]
"""

import argparse
import statistics
import threading
import time

import numpy as np

import common

DATABASE = "s3vector_writes"
INDEXES = {"none": None, "s3vector": "s3vector", "pgvector": "hnsw"}


class Bench:
    def __init__(self, options):
        self.options = options
        self.connection = common.fresh_database(options, DATABASE)
        base = np.load(options.base, mmap_mode="r")[: options.rows].astype(np.float32)
        self.dimensions = base.shape[1]
        # Rows are made beforehand: the client must not be what is measured.
        form = common.binary_rows if options.binary else common.lines
        self.lines = [form(base[number : number + 1], number) for number in range(len(base))]
        self.queries = [common.text(v) for v in np.load(options.query)[:200].astype(np.float32)]

    def table(self, index):
        self.connection.execute("DROP TABLE IF EXISTS items")
        self.connection.execute(f"CREATE TABLE items (id int, v vector({self.dimensions}))")
        # As it is by default for what compresses badly: neither compressed nor moved away.
        self.connection.execute("ALTER TABLE items ALTER v SET STORAGE PLAIN")
        if INDEXES[index]:
            self.connection.execute(
                f"CREATE INDEX ix ON items USING {INDEXES[index]} (v vector_cosine_ops)")
        self.connection.execute("CHECKPOINT")

    def copy(self, parts):
        """Seconds that writers, one a part, take side by side."""
        def write(part):
            with common.connect(self.options, DATABASE) as connection:
                common.copy_lines(connection, "items", part, self.options.binary)
        threads = [threading.Thread(target=write, args=(part,)) for part in parts]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - start

    def rate(self, index, writers, rows):
        self.table(index)
        parts = [b"".join(self.lines[:rows][n::writers]) for n in range(writers)]
        return rows / self.copy(parts)

    def inserting(self, writers):
        rates = {index: [] for index in INDEXES}
        for _ in range(self.options.repeats):
            # Side by side in time, so that both meet the same machine.
            for index in ("none", "s3vector"):
                rates[index].append(self.rate(index, writers, self.options.rows))
        rates["pgvector"].append(self.rate("pgvector", writers, self.options.peer_rows))
        plain = statistics.median(rates["none"])
        ratios = [ours / none for ours, none in zip(rates["s3vector"], rates["none"])]
        print(f"COPY, {writers} writer(s): no index {plain:.0f} vectors/s, "
              f"s3vector {statistics.median(rates['s3vector']):.0f}, "
              f"pgvector {rates['pgvector'][0]:.0f}")
        print(f"  s3vector keeps {100 * statistics.median(ratios):.0f} % "
              f"({100 * min(ratios):.0f} to {100 * max(ratios):.0f}), "
              f"pgvector {100 * rates['pgvector'][0] / plain:.1f} %", flush=True)

    def milliseconds(self):
        """A warm query's time."""
        self.connection.execute("SET enable_seqscan = off")
        times = []
        for _ in range(2):
            times.clear()
            for query in self.queries:
                start = time.perf_counter()
                self.connection.execute(
                    "SELECT id FROM items ORDER BY v <=> %s::vector LIMIT 10", (query,)).fetchall()
                times.append(1e3 * (time.perf_counter() - start))
        return statistics.median(times)

    def growing(self):
        """Flushes by hand of a twentieth of the rows each; needs s3vector.maintenance_workers = 0."""
        self.table("s3vector")
        step = max(1, len(self.lines) // 20)
        merged = seconds = 0
        for start in range(0, len(self.lines), step):
            self.copy([b"".join(self.lines[start:start + step])])
            waiting = self.milliseconds() if start == 0 else None
            begin = time.perf_counter()
            row = self.connection.execute(
                "SELECT rows_merged, segments FROM s3vector_flush('ix')").fetchone()
            seconds += time.perf_counter() - begin
            merged += row[0]
            if waiting is not None:
                print(f"query with {step} rows that wait: {waiting:.2f} ms; flushed: "
                      f"{self.milliseconds():.2f} ms")
        print(f"20 flushes of {step} rows: {seconds:.1f} s, {row[1]} segments, every row merged "
              f"{merged / len(self.lines):.1f} times; query: {self.milliseconds():.2f} ms", flush=True)


def main():
    parser = argparse.ArgumentParser()
    for name in ("host", "base", "query"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", default="5432")
    parser.add_argument("--writers", default="1,4")
    parser.add_argument("--binary", action="store_true")
    for name, default in (("rows", 30_000), ("repeats", 5), ("peer-rows", 3_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    bench = Bench(options)
    for writers in options.writers.split(","):
        bench.inserting(int(writers))
    admin = common.connect(options, DATABASE)
    admin.execute("ALTER SYSTEM SET s3vector.maintenance_workers = 0")
    admin.execute("SELECT pg_reload_conf()")
    try:
        time.sleep(2)
        bench.growing()
    finally:
        admin.execute("ALTER SYSTEM RESET s3vector.maintenance_workers")
        admin.execute("SELECT pg_reload_conf()")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measures what the collections API costs: search_vectors beside the same statement written out, and
add_vectors beside COPY into the same table. One cluster, one run; the ratios are what to quote.

Needs a running cluster with the extension installed, psycopg, numpy and pgbench.

usage: api.py --bin PG_BIN --host SOCKET_DIR --port N --base base.npy --query query.npy
              [--rows 100000] [--add 20000] [--seconds 4] [--repeats 5]
"""

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import psycopg

import common
from common import spread, text

DATABASE = "s3vector_collections"
CALL_ROWS = 1000
LIMIT = 10

QUERY = "(SELECT v FROM queries WHERE id = :i)"
SEARCHES = {
    "nearest": (
        "SELECT id, 1 - (embedding <=> q.v), metadata FROM docs, (SELECT v FROM queries WHERE id = :i) q "
        "ORDER BY embedding <=> q.v LIMIT 10",
        "SELECT id, score, metadata FROM s3vector.search_vectors('docs', " + QUERY + ")",
    ),
    "nearest of a tenth": (
        "SELECT id, 1 - (embedding <=> " + QUERY + "), metadata FROM docs WHERE metadata @> '{\"tenth\": 3}' "
        "ORDER BY embedding <=> " + QUERY + " LIMIT 10",
        "SELECT id, score, metadata FROM s3vector.search_vectors('docs', " + QUERY + ", '{\"tenth\": 3}')",
    ),
    "nearest of a thousandth": (
        "SELECT id, 1 - (embedding <=> " + QUERY + "), metadata FROM docs WHERE metadata @> '{\"thousandth\": 3}' "
        "ORDER BY embedding <=> " + QUERY + " LIMIT 10",
        "SELECT id, score, metadata FROM s3vector.search_vectors('docs', " + QUERY + ", '{\"thousandth\": 3}')",
    ),
}
# The planner knows a parameter of a statement, not the row of a join.
SEARCHES["nearest"] = (
    "SELECT id, 1 - (embedding <=> " + QUERY + "), metadata FROM docs ORDER BY embedding <=> " + QUERY + " LIMIT 10",
    SEARCHES["nearest"][1],
)


def metadata(number):
    return json.dumps({"tenth": number % 10, "thousandth": number % 1000, "name": f"item {number}"})


class Bench:
    def __init__(self, options):
        self.options = options
        self.connection = common.fresh_database(options, DATABASE)
        self.base = np.load(options.base, mmap_mode="r")[: options.rows].astype(np.float32)
        self.queries = np.load(options.query)[:1000].astype(np.float32)
        self.dimensions = self.base.shape[1]

    def lines(self, rows):
        return "".join(
            f"{number}\t{text(self.base[number])}\t{metadata(number)}\n" for number in range(rows)
        ).encode()

    def copy(self, table, data):
        """Seconds that COPY takes."""
        return common.copy_lines(self.connection, f"{table} (id, embedding, metadata)", data)

    def create(self, name):
        self.connection.execute(
            "SELECT s3vector.create_collection(%s, %s, overwrite => true)", (name, self.dimensions)
        )

    def searches(self):
        self.create("docs")
        self.copy("docs", self.lines(len(self.base)))
        self.connection.execute(f"CREATE TABLE queries (id int PRIMARY KEY, v vector({self.dimensions}))")
        self.connection.execute("ALTER TABLE queries ALTER v SET STORAGE PLAIN")
        with self.connection.cursor().copy("COPY queries FROM STDIN") as copy:
            for number, query in enumerate(self.queries):
                copy.write(f"{number}\t{text(query)}\n")
        self.connection.execute("SET maintenance_work_mem = '1GB'")
        self.connection.execute("REINDEX INDEX docs_embedding_idx")
        self.connection.execute("VACUUM (ANALYZE, FREEZE) docs, queries")
        self.connection.execute("CHECKPOINT")
        for name, statements in SEARCHES.items():
            for mode in ("prepared", "simple"):
                ratios, rates = [], []
                for statement in statements:
                    self.rate(statement, mode, 1)
                for _ in range(self.options.repeats):
                    plain, call = (self.rate(s, mode, self.options.seconds) for s in statements)
                    ratios.append(plain / call)
                    rates.append(call)
                print(f"{name}, {mode}: search_vectors takes {spread(ratios, 3)} of the plain statement's time "
                      f"({statistics.median(rates):.0f} calls/s)", flush=True)

    def rate(self, statement, mode, seconds):
        """Statements a second of one pgbench client."""
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(f"\\set i random(0, {len(self.queries) - 1})\n{statement};\n")
            script.flush()
            out = subprocess.run(
                [Path(self.options.bin) / "pgbench", "-n", "-M", mode, "-f", script.name, "-T", str(seconds),
                 "-h", self.options.host, "-p", str(self.options.port), "-U", "postgres", DATABASE],
                capture_output=True, text=True, check=True).stdout
        return float(re.search(r"tps = ([0-9.]+)", out).group(1))

    def additions(self):
        rows = self.options.add
        data = self.lines(rows)
        ids = [str(number) for number in range(rows)]
        notes = [metadata(number) for number in range(rows)]
        vectors = [text(vector) for vector in self.base[:rows]]
        forms = {
            "vector[]": ("SELECT s3vector.add_vectors('added', %s::vector[], %s::jsonb[], %s)",
                         lambda a, b: (vectors[a:b], notes[a:b], ids[a:b])),
            "vector[] as one prepared text": ("SELECT s3vector.add_vectors('added', %s::vector[], %s::jsonb[], %s)",
                         lambda a, b: ("{" + ",".join(f'"{v}"' for v in vectors[a:b]) + "}", notes[a:b], ids[a:b])),
            "real[][], binary": ("SELECT s3vector.add_vectors('added', %b::real[], %s::jsonb[], %s)",
                         lambda a, b: (matrix(self.base[a:b]), notes[a:b], ids[a:b])),
            "jsonb": ("SELECT s3vector.add_vectors('added', %s::jsonb)",
                      lambda a, b: ("[" + ",".join(
                          f'{{"id":"{ids[n]}","vector":{vectors[n]},"metadata":{notes[n]}}}'
                          for n in range(a, b)) + "]",)),
        }
        ratios = {form: [] for form in forms}
        for _ in range(self.options.repeats):
            self.create("added")
            self.connection.execute("CHECKPOINT")
            copied = self.copy("added", data)
            for form, (statement, arguments) in forms.items():
                calls = [arguments(a, min(a + CALL_ROWS, rows)) for a in range(0, rows, CALL_ROWS)]
                self.create("added")
                self.connection.execute("CHECKPOINT")
                begin = time.perf_counter()
                for call in calls:
                    self.connection.execute(statement, call)
                ratios[form].append(copied / (time.perf_counter() - begin))
            print(f"  COPY {rows / copied:.0f} rows/s", flush=True)
        for form, values in ratios.items():
            print(f"add_vectors, {CALL_ROWS} rows a call, {form}: {spread(values, 3)} of COPY's rate", flush=True)


class matrix:
    """A float32 matrix as PostgreSQL's binary array."""

    def __init__(self, rows):
        self.rows = rows


class MatrixDumper(psycopg.adapt.Dumper):
    format = psycopg.pq.Format.BINARY
    oid = 1021  # float4[]

    def dump(self, value):
        rows, columns = value.rows.shape
        cells = np.empty((rows, columns), dtype=[("length", ">i4"), ("value", ">f4")])
        cells["length"], cells["value"] = 4, value.rows
        header = np.array([2, 0, 700, rows, 1, columns, 1], dtype=">i4")
        return header.tobytes() + cells.tobytes()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, default=5432)
    parser.add_argument("--base", required=True)
    parser.add_argument("--query", required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--add", type=int, default=20_000)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    psycopg.adapters.register_dumper(matrix, MatrixDumper)
    bench = Bench(parser.parse_args())
    bench.additions()
    bench.searches()


if __name__ == "__main__":
    main()

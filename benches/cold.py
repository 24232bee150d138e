#!/usr/bin/env python3
"""Measures a query that finds nothing in the payload cache, beside its recall.

A private PostgreSQL, and Garage behind a proxy that adds a fixed latency to every answer. All rows in one index, its
graph in memory. Then, for every search setting:

  one request   a plain ranged GET of 64 KiB through the same proxy, on a connection kept open
  cold          every query against an empty payload cache, in turn with such a GET
  warm          the same queries, all their chunks cached
  Redis         every query against an empty payload cache, all its chunks in Redis

`make bench` measures cold queries beside one request. This program adds warm ones, Redis, and what a cold query
fetches; it needs `eval "$(scripts/env.sh)"`, an installed extension, cargo (for the proxy), redis-server.

usage: cold.py --data FOLDER [--rows 100000] [--queries 200] [--latency 30] [--ef 40,100] [--proxy PROGRAM]
               [--out FILE.json]
"""

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import numpy as np
from psycopg.rows import dict_row

import common
import servers
from data import dataset, read_wordnet

sys.path.append(str(servers.ROOT / "tests" / "python"))

from bucket import Bucket  # noqa: E402

REQUEST_BYTES = 64 << 10
# What a cold query is meant to keep to.
MOST_REQUESTS, MOST_BYTES = 8, 1 << 20
QUERY = "SELECT id FROM items ORDER BY v <=> %s::vector LIMIT 10"


class Request:
    """A plain ranged GET, again and again on one connection."""

    def __init__(self, endpoint):
        address = urllib.parse.urlsplit(endpoint)
        self.bucket = Bucket(endpoint, servers.demo.REGION, servers.demo.BUCKET,
                             servers.ACCESS_KEY, servers.SECRET_KEY)
        self.key = next(key for key, size in self.bucket.objects("")
                        if "/vectors/" in key and size > REQUEST_BYTES)
        self.connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)

    def milliseconds(self):
        path, headers = self.bucket.signed("GET", self.key)
        start = time.perf_counter()
        self.connection.request("GET", path, headers=headers | {"range": f"bytes=0-{REQUEST_BYTES - 1}"})
        response = self.connection.getresponse()
        body = response.read()
        elapsed = time.perf_counter() - start
        assert response.status == 206 and len(body) == REQUEST_BYTES, (response.status, len(body))
        return 1e3 * elapsed


class Cold:
    """An index whose vectors lie behind the proxy."""

    def __init__(self, postgres, proxy, dataset):
        self.connection, self.proxy, self.truth = postgres.connect(), proxy, dataset.truth
        self.queries = [common.text(query) for query in dataset.queries]
        self.connection.execute("CREATE EXTENSION s3vector CASCADE")
        common.create_table(self.connection, "items", dataset.base)
        self.connection.execute("SET maintenance_work_mem = '1GB'")
        self.connection.execute(
            "CREATE INDEX ON items USING s3vector (v vector_cosine_ops) WITH (m = 16, ef_construction = 64)")
        self.connection.execute("SET enable_seqscan = off")
        self.request = Request(proxy.endpoint)
        # Has the graph loaded.
        self.ask(0)

    def search(self, ef):
        self.connection.execute(f"SET s3vector.ef_search = {ef}")

    def ask(self, number):
        """Milliseconds and rows of one query."""
        start = time.perf_counter()
        rows = self.connection.execute(QUERY, (self.queries[number],), prepare=True).fetchall()
        return 1e3 * (time.perf_counter() - start), [row[0] for row in rows]

    def all(self, cold, beside=None):
        """Every query once: times, recall, what each fetched; `beside` is called before each."""
        times, scans, answers = [], [], []
        for number in range(len(self.truth)):
            if cold:
                self.connection.execute("SELECT s3vector_drop_cache()")
            if beside:
                beside()
            elapsed, rows = self.ask(number)
            times.append(elapsed)
            answers.append(rows)
            with self.connection.cursor(row_factory=dict_row) as cursor:
                scans.append(cursor.execute("SELECT * FROM s3vector_last_scan()").fetchone())
        result = {"p50": percentile(times, 50), "p95": percentile(times, 95),
                  "recall": common.share_found(answers, self.truth)}
        for name in ("waves", "requests", "hedges", "bytes", "cache_hits", "chunks_fetched", "redis_chunks"):
            column = [scan[name] for scan in scans]
            result[name] = {"mean": statistics.mean(column), "p95": percentile(column, 95), "most": max(column)}
        within = [scan["requests"] <= MOST_REQUESTS and scan["bytes"] <= MOST_BYTES for scan in scans]
        result["within"] = statistics.mean(within)
        return result

    def beside_request(self):
        """Cold queries, in turn with a plain request."""
        requests = []
        before = self.proxy.stats()
        cold = self.all(True, lambda: requests.append(self.request.milliseconds()))
        after = self.proxy.stats()
        # The plain GETs went through the same proxy.
        count = len(self.queries)
        cold["proxy_gets"] = (after["gets"] - before["gets"]) / count - 1
        cold["proxy_bytes"] = (after["bytes"] - before["bytes"]) / count - REQUEST_BYTES
        return {"request": {"p50": percentile(requests, 50), "p95": percentile(requests, 95)}, "cold": cold}

    def warm(self):
        self.all(False)
        return self.all(False)

    def use_redis(self, redis):
        self.connection.execute(f"ALTER SYSTEM SET s3vector.redis_url = 'redis://127.0.0.1:{redis.port}'")
        self.connection.execute("SELECT pg_reload_conf()")
        # The next query finds it configured; connecting goes on behind it.
        self.ask(0)
        time.sleep(1)

    def with_redis(self):
        self.all(True)
        # Redis is filled behind the answers.
        time.sleep(1)
        return self.all(True)


def percentile(values, share):
    return float(np.percentile(values, share))


@contextlib.contextmanager
def running(folder, proxy_program, latency, dataset):
    """The index of a data set with its servers, whose files lie in `folder`."""
    with servers.distant_store(folder / "garage", proxy_program, latency) as (proxy, settings):
        settings |= {"shared_buffers": "512MB", "s3vector.cache_size": "512MB"}
        with servers.postgres(folder / "distant", settings) as postgres:
            yield Cold(postgres, proxy, dataset)


def proxy_program():
    """The proxy's program, compiled if need be."""
    command = ["cargo", "build", "-q", "-p", "s3vector-tests", "--bin", "latency-proxy", "--message-format=json"]
    done = subprocess.run(command, cwd=servers.ROOT, check=True, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return next(line["executable"] for line in lines if line.get("executable"))


def measure(options):
    base, queries = read_wordnet(options.data)
    rows = dataset("items", "WordNet", base[: options.rows], queries[: options.queries])
    program = options.proxy or proxy_program()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3v-cold-", dir="/tmp")))
        folder.chmod(0o755)
        redis = servers.Redis(folder)
        stack.callback(redis.stop)
        bench = stack.enter_context(running(folder, program, options.latency, rows))
        results = {}
        for ef in options.ef:
            bench.search(ef)
            results[ef] = bench.beside_request() | {"warm": bench.warm()}
        bench.use_redis(redis)
        for ef in options.ef:
            bench.search(ef)
            results[ef]["redis"] = bench.with_redis()
        return results


def show(ef, result):
    request, cold, warm, redis = (result[name] for name in ("request", "cold", "warm", "redis"))
    print(f"ef_search = {ef}: recall@10 {cold['recall']:.4f}")
    print(f"  one request of 64 kB    p50 {request['p50']:7.2f} ms   p95 {request['p95']:7.2f} ms")
    for name, row in (("cold", cold), ("warm", warm), ("Redis warm, cache cold", redis)):
        print(f"  {name:22}  p50 {row['p50']:7.2f} ms   p95 {row['p95']:7.2f} ms")
    print("  a cold query:  mean, p95, most")
    for name, unit in (("waves", 1), ("requests", 1), ("hedges", 1), ("chunks_fetched", 1), ("bytes", 1024)):
        values = (cold[name][part] / unit for part in ("mean", "p95", "most"))
        print(f"    {name if unit == 1 else 'kilobytes':14} ", *(f"{value:8.2f}" for value in values))
    print(f"    {100 * cold['within']:.0f} % within {MOST_REQUESTS} requests and {MOST_BYTES >> 10} kB")
    print(f"  with Redis warm: {redis['requests']['mean']:.2f} requests (most {redis['requests']['most']})")
    print(f"  cold / one request: p50 {cold['p50'] / request['p50']:.2f}, p95 {cold['p95'] / request['p50']:.2f};"
          f" GETs a query at the proxy {cold['proxy_gets']:.2f}, {cold['proxy_bytes'] / 1024:.0f} kB")
    print(f"  Redis warm - warm: p50 {redis['p50'] - warm['p50']:.2f} ms")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    for name, default in (("rows", 100_000), ("queries", 200), ("latency", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--ef", default="40,100", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--proxy")
    parser.add_argument("--out")
    options = parser.parse_args()
    if os.environ.get("S3VECTOR_GARAGE") is None:
        sys.exit('S3VECTOR_GARAGE is not set: run this after eval "$(scripts/env.sh)"')
    results = measure(options)
    for ef, result in results.items():
        show(ef, result)
    print(json.dumps(results))
    if options.out:
        Path(options.out).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

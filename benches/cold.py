#!/usr/bin/env python3
"""Measures a query that finds nothing in the payload cache, beside its recall.

Starts a private PostgreSQL, Redis, and Garage behind a proxy that adds a fixed latency to every
answer. 100,000 rows in one index, its graph in memory. Then, for every search setting:

  one request   a plain ranged GET of 64 KiB through the same proxy, on a connection kept open
  cold          every query against an empty payload cache, in turn with such a GET
  warm          the same queries, all their chunks cached
  Redis         every query against an empty payload cache, all its chunks in Redis

Times belong to one machine and one hour. What to quote: cold as a ratio to one request, the number
of waves, requests and bytes, and what Redis adds to a warm query.

Needs `eval "$(scripts/env.sh)"`, an installed extension, cargo (for the proxy), redis-server.

usage: cold.py --base base.npy --query query.npy [--rows 100000] [--queries 200] [--latency 30]
               [--ef 40,100] [--proxy PROGRAM] [--out FILE.json]
"""

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import numpy as np
import psycopg
from psycopg.rows import dict_row

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "demo"), str(ROOT / "tests" / "python"), str(ROOT / "benches")]

import cluster as servers  # noqa: E402
from bucket import Bucket  # noqa: E402
from peers import exact, text  # noqa: E402

ACCESS_KEY, SECRET_KEY = "GK" + "0123456789ab" * 2, "0123456789abcdef" * 4
REQUEST_BYTES = 64 << 10
# What a cold query is meant to keep to.
MOST_REQUESTS, MOST_BYTES = 8, 1 << 20
QUERY = "SELECT id FROM items ORDER BY v <=> %s::vector LIMIT 10"


class Proxy:
    """Adds a latency to every answer of a server, and counts them."""

    def __init__(self, program, upstream, latency):
        self.process = subprocess.Popen(
            [program, "--upstream", upstream, "--latency-ms", str(latency)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.endpoint = self.process.stdout.readline().strip()

    def stats(self):
        self.process.stdin.write("stats\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)


class Redis:
    """An empty Redis that keeps nothing on disk."""

    def __init__(self, directory):
        self.port = servers.free_port()
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
             "--appendonly", "no", "--dir", directory],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)

    def stop(self):
        servers.stop(self.process, signal.SIGTERM)


class Postgres:
    """A cluster in `directory` with these settings."""

    def __init__(self, directory, settings):
        self.directory = directory
        arguments = {"stdin": subprocess.DEVNULL, "cwd": "/", **servers.run_as()}
        if servers.run_as():
            shutil.chown(directory, "postgres", "postgres")
        subprocess.run(
            [servers.BIN / "initdb", "-D", directory / "data", "-U", "postgres", "--auth=trust", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, **arguments)
        settings |= {"listen_addresses": "", "unix_socket_directories": directory}
        with (directory / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        with (directory / "postgres.log").open("w") as log:
            self.process = subprocess.Popen(
                [servers.BIN / "postgres", "-D", directory / "data"],
                stdout=log, stderr=log, start_new_session=True, **arguments)

    def connect(self):
        """A connection, once the server accepts one."""
        deadline = time.monotonic() + servers.START_SECONDS
        while True:
            try:
                return psycopg.connect(host=str(self.directory), user="postgres", autocommit=True)
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"PostgreSQL does not start:{servers.tail(self.directory / 'postgres.log')}")
                time.sleep(0.05)

    def stop(self):
        servers.stop(self.process, signal.SIGINT)


class Request:
    """A plain ranged GET, again and again on one connection."""

    def __init__(self, endpoint):
        address = urllib.parse.urlsplit(endpoint)
        self.bucket = Bucket(endpoint, servers.REGION, servers.BUCKET, ACCESS_KEY, SECRET_KEY)
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


class Bench:
    def __init__(self, options, connection, proxy):
        self.connection, self.proxy = connection, proxy
        base = np.load(options.base, mmap_mode="r")[: options.rows]
        queries = np.load(options.query)[: options.queries].astype(np.float32)
        self.truth = exact(base, queries, "cosine")
        self.queries = [text(query) for query in queries]
        connection.execute("CREATE EXTENSION s3vector CASCADE")
        connection.execute(f"CREATE TABLE items (id int PRIMARY KEY, v vector({base.shape[1]}))")
        with connection.cursor().copy("COPY items FROM STDIN") as copy:
            for number, vector in enumerate(base):
                copy.write(f"{number}\t{text(vector)}\n")
        connection.execute("SET maintenance_work_mem = '2GB'")
        connection.execute("CREATE INDEX ON items USING s3vector (v vector_cosine_ops)")
        connection.execute("ANALYZE items")
        connection.execute("SET enable_seqscan = off")
        self.request = Request(proxy.endpoint)
        # Has the graph loaded.
        self.ask(0)

    def drop_cache(self):
        self.connection.execute("SELECT s3vector_drop_cache()")

    def ask(self, number):
        """Milliseconds and rows of one query."""
        start = time.perf_counter()
        rows = self.connection.execute(QUERY, (self.queries[number],), prepare=True).fetchall()
        return 1e3 * (time.perf_counter() - start), [row[0] for row in rows]

    def all(self, cold, beside=None):
        """Every query once: times, recall, what each fetched; `beside` is called before each."""
        times, scans, found = [], [], 0
        for number, truth in enumerate(self.truth):
            if cold:
                self.drop_cache()
            if beside:
                beside()
            elapsed, rows = self.ask(number)
            times.append(elapsed)
            found += len(set(rows) & set(truth.tolist()))
            with self.connection.cursor(row_factory=dict_row) as cursor:
                scans.append(cursor.execute("SELECT * FROM s3vector_last_scan()").fetchone())
        result = {"p50": percentile(times, 50), "p95": percentile(times, 95),
                  "recall": found / self.truth.size}
        for name in ("waves", "requests", "hedges", "bytes", "cache_hits", "chunks_fetched", "redis_chunks"):
            column = [scan[name] for scan in scans if name in scan]
            if column:
                result[name] = {"mean": statistics.mean(column), "p95": percentile(column, 95),
                                "most": max(column)}
        within = [scan["requests"] <= MOST_REQUESTS and scan["bytes"] <= MOST_BYTES for scan in scans]
        result["within"] = statistics.mean(within)
        return result

    def without_redis(self):
        requests = []
        before = self.proxy.stats()
        cold = self.all(True, lambda: requests.append(self.request.milliseconds()))
        after = self.proxy.stats()
        # The plain GETs went through the same proxy.
        count = len(self.queries)
        cold["proxy_gets"] = (after["gets"] - before["gets"]) / count - 1
        cold["proxy_bytes"] = (after["bytes"] - before["bytes"]) / count - REQUEST_BYTES
        request = {"p50": percentile(requests, 50), "p95": percentile(requests, 95)}
        self.all(False)
        return {"request": request, "cold": cold, "warm": self.all(False)}

    def with_redis(self):
        self.all(True)
        # Redis is filled behind the answers.
        time.sleep(1)
        return self.all(True)


def percentile(values, share):
    return float(np.percentile(values, share))


def program(options):
    """The proxy's program, compiled if need be."""
    if options.proxy:
        return options.proxy
    command = ["cargo", "build", "-q", "-p", "s3vector-tests", "--bin", "latency-proxy", "--message-format=json"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return next(line["executable"] for line in lines if line.get("executable"))


def measure(options):
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3v-cold-", dir="/tmp")))
        folder.chmod(0o755)
        (folder / "postgres").mkdir()
        redis = Redis(folder)
        stack.callback(redis.stop)
        garage = servers.Garage(folder / "garage", ACCESS_KEY, SECRET_KEY)
        stack.callback(garage.stop)
        garage.start()
        proxy = Proxy(program(options), garage.endpoint, options.latency)
        stack.callback(proxy.stop)
        postgres = Postgres(folder / "postgres", {
            "shared_preload_libraries": "s3vector",
            "shared_buffers": "512MB",
            "s3vector.cache_size": "512MB",
            "s3vector.storage_url": f"s3://{servers.BUCKET}/cold",
            "s3vector.s3_endpoint": proxy.endpoint,
            "s3vector.s3_region": servers.REGION,
            "s3vector.s3_path_style": "on",
            "s3vector.s3_access_key_id": ACCESS_KEY,
            "s3vector.s3_secret_access_key": SECRET_KEY,
        })
        stack.callback(postgres.stop)
        connection = stack.enter_context(postgres.connect())
        bench = Bench(options, connection, proxy)
        results = {}
        for ef in options.ef:
            connection.execute(f"SET s3vector.ef_search = {ef}")
            results[ef] = bench.without_redis()
        connection.execute(f"ALTER SYSTEM SET s3vector.redis_url = 'redis://127.0.0.1:{redis.port}'")
        connection.execute("SELECT pg_reload_conf()")
        # The next query finds it configured; connecting goes on behind it.
        bench.ask(0)
        time.sleep(1)
        for ef in options.ef:
            connection.execute(f"SET s3vector.ef_search = {ef}")
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
        if name in cold:
            values = (cold[name][part] / unit for part in ("mean", "p95", "most"))
            print(f"    {name if unit == 1 else 'kilobytes':14} ", *(f"{value:8.2f}" for value in values))
    print(f"    {100 * cold['within']:.0f} % within {MOST_REQUESTS} requests and {MOST_BYTES >> 10} kB")
    print(f"  with Redis warm: {redis['requests']['mean']:.2f} requests (most {redis['requests']['most']})")
    print(f"  cold / one request: p50 {cold['p50'] / request['p50']:.2f}, p95 {cold['p95'] / request['p95']:.2f};"
          f" GETs a query at the proxy {cold['proxy_gets']:.2f}, {cold['proxy_bytes'] / 1024:.0f} kB")
    print(f"  Redis warm - warm: p50 {redis['p50'] - warm['p50']:.2f} ms")


def main():
    parser = argparse.ArgumentParser()
    for name in ("base", "query"):
        parser.add_argument(f"--{name}", required=True)
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

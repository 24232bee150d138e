"""The servers of a benchmark, children of its process: on Unix sockets and loopback, gone when it ends."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parent.parent
# Behind our own folder, where files go by the same names.
sys.path.append(str(ROOT / "demo"))

import cluster as demo  # noqa: E402
from systems import LIBRARIES  # noqa: E402

ACCESS_KEY, SECRET_KEY = "GK" + "0123456789ab" * 2, "0123456789abcdef" * 4


class Postgres:
    """A new cluster in a folder, with these settings."""

    bin = demo.BIN

    def __init__(self, folder, settings):
        self.log = folder / "postgres.log"
        # Short: the path of a Unix socket is limited to 107 bytes.
        self.sockets = tempfile.mkdtemp(prefix="s3v-bench-", dir="/tmp")
        folder.mkdir()
        arguments = {"stdin": subprocess.DEVNULL, "cwd": "/", **demo.run_as()}
        if demo.run_as():
            for path in (folder, self.sockets):
                shutil.chown(path, "postgres", "postgres")
        subprocess.run(
            [self.bin / "initdb", "-D", folder / "data", "-U", "postgres", "--encoding=UTF8", "--locale=C.UTF-8",
             "--auth=trust", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, **arguments)
        settings = {"listen_addresses": "", "unix_socket_directories": self.sockets,
                    "shared_preload_libraries": ",".join(self.libraries()), **settings}
        with (folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [self.bin / "postgres", "-D", folder / "data"],
                stdout=log, stderr=log, start_new_session=True, **arguments)

    def libraries(self):
        done = subprocess.run([self.bin / "pg_config", "--pkglibdir"], check=True, capture_output=True, text=True)
        return [name for name in LIBRARIES if (Path(done.stdout.strip()) / f"{name}.so").exists()]

    def connect(self):
        """A connection, once the server accepts one; each statement its own transaction."""
        deadline = time.monotonic() + demo.START_SECONDS
        while True:
            try:
                return psycopg.connect(host=self.sockets, user="postgres", dbname="postgres", autocommit=True)
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"PostgreSQL does not answer, the end of its log:{demo.tail(self.log)}") from None
                time.sleep(0.05)

    @contextlib.contextmanager
    def one_processor(self):
        """Sessions begun meanwhile, this thread and what it starts share one processor: while the one works the other
        waits, and the processor never sleeps. How long it takes to wake is the machine's, not an index's."""
        every = os.sched_getaffinity(0)
        try:
            for process in (0, self.process.pid):
                os.sched_setaffinity(process, {max(every)})
            yield
        finally:
            for process in (0, self.process.pid):
                os.sched_setaffinity(process, every)

    def stop(self):
        demo.stop(self.process, signal.SIGINT)
        shutil.rmtree(self.sockets, ignore_errors=True)


class Redis:
    """An empty Redis that keeps nothing on disk."""

    def __init__(self, folder):
        self.port = demo.free_port()
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "",
             "--appendonly", "no", "--dir", folder],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)

    def stop(self):
        demo.stop(self.process, signal.SIGTERM)


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


@contextlib.contextmanager
def postgres(folder, settings):
    """A cluster that is stopped at the end, and its folder removed."""
    server = Postgres(folder, settings)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def distant_store(folder, proxy_program, latency):
    """Garage behind a proxy that adds `latency` milliseconds: the proxy, and settings for PostgreSQL to use it."""
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        garage = demo.Garage(folder, ACCESS_KEY, SECRET_KEY)
        stack.callback(garage.stop)
        garage.start()
        proxy = Proxy(proxy_program, garage.endpoint, latency)
        stack.callback(proxy.stop)
        yield proxy, {
            "s3vector.storage_url": f"s3://{demo.BUCKET}/bench",
            "s3vector.s3_endpoint": proxy.endpoint,
            "s3vector.s3_region": demo.REGION,
            "s3vector.s3_path_style": "on",
            "s3vector.s3_access_key_id": ACCESS_KEY,
            "s3vector.s3_secret_access_key": SECRET_KEY,
        }

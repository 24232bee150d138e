"""A private PostgreSQL cluster for the demo, and the Garage server beside it when vectors go to S3.

Servers are children of this process, in sessions of their own so that Ctrl-C in the terminal does
not reach them. As root, PostgreSQL runs as the system user `postgres`: it refuses to run as root.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg

BIN = Path(os.environ["S3VECTOR_PG_CONFIG"]).parent
DATABASE = "demo"
BUCKET = "s3vector"
REGION = "garage"
START_SECONDS = 60


class DemoError(Exception):
    """Something the demo cannot go on after; the message is for the person who runs it."""


def run_as():
    """Arguments for subprocess: the user that PostgreSQL's programs run as."""
    if os.geteuid() != 0:
        return {}
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


def free_port():
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tail(path, lines=15):
    """The last lines of a log, for an error message."""
    try:
        text = Path(path).read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return ""
    return "".join(f"\n    │ {line}" for line in text)


def stop(process, sign):
    """Ends a server, by force when it does not end by itself."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(sign)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Garage:
    """An S3 server on loopback, its data below `directory`."""

    def __init__(self, directory, access_key, secret_key):
        self.directory = directory
        self.access_key = access_key
        self.secret_key = secret_key
        self.log = directory / "garage.log"
        self.port = None
        self.process = None

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.port, rpc_port = free_port(), free_port()
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "garage.toml"
        config.write_text(
            f'metadata_dir = "{self.directory}/meta"\n'
            f'data_dir = "{self.directory}/blocks"\n'
            'db_engine = "lmdb"\n'
            "replication_factor = 1\n"
            f'rpc_bind_addr = "127.0.0.1:{rpc_port}"\n'
            f'rpc_public_addr = "127.0.0.1:{rpc_port}"\n'
            "[s3_api]\n"
            f'api_bind_addr = "127.0.0.1:{self.port}"\n'
            f's3_region = "{REGION}"\n'
        )
        environment = os.environ | {
            "GARAGE_RPC_SECRET": secrets.token_hex(32),
            "GARAGE_DEFAULT_ACCESS_KEY": self.access_key,
            "GARAGE_DEFAULT_SECRET_KEY": self.secret_key,
            "GARAGE_DEFAULT_BUCKET": BUCKET,
            "RUST_LOG": "warn",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [os.environ["S3VECTOR_GARAGE"], "-c", config, "server", "--single-node", "--default-bucket"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )
        # Garage makes the key and the bucket before it listens.
        deadline = time.monotonic() + START_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"Garage does not start, the end of {self.log}:{tail(self.log)}")
            time.sleep(0.05)

    def stop(self):
        stop(self.process, signal.SIGTERM)


class Cluster:
    """The demo's PostgreSQL, its data directory and store below `directory`."""

    def __init__(self, directory, storage):
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "postgres.log"
        self.state = directory / "state.json"
        self.storage = storage
        self.garage = None
        self.process = None
        self.port = None
        self.sockets = None
        self.password = None

    def create(self):
        """Makes an empty cluster in place of what the last run left."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        state = {
            "password": secrets.token_urlsafe(12),
            "access_key": "GK" + secrets.token_hex(12),
            "secret_key": secrets.token_hex(32),
        }
        self.state.touch(mode=0o600)
        self.state.write_text(json.dumps(state))
        if run_as():
            shutil.chown(self.directory, "postgres", "postgres")
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(state["password"])
            file.flush()
            if run_as():
                shutil.chown(file.name, "postgres", "postgres")
            # Over the socket, which only its owner reaches, no password; over TCP, one.
            done = subprocess.run(
                [BIN / "initdb", "-D", self.data, "-U", "postgres", "--encoding=UTF8", "--locale=C.UTF-8",
                 "--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={file.name}", "--no-sync"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", **run_as(),
            )
        if done.returncode:
            raise DemoError(f"initdb failed: {done.stdout}{done.stderr}")

    def start(self):
        """Starts the servers and waits until they answer."""
        state = json.loads(self.state.read_text())
        self.password = state["password"]
        settings = {
            "listen_addresses": "127.0.0.1",
            "shared_preload_libraries": "s3vector",
            "maintenance_work_mem": "256MB",
            "logging_collector": "off",
        }
        if self.storage == "s3":
            if self.garage is None:
                self.garage = Garage(self.directory / "garage", state["access_key"], state["secret_key"])
                self.garage.start()
            settings |= {
                "s3vector.storage_url": f"s3://{BUCKET}/demo",
                "s3vector.s3_endpoint": self.garage.endpoint,
                "s3vector.s3_region": REGION,
                "s3vector.s3_path_style": "on",
                "s3vector.s3_access_key_id": state["access_key"],
                "s3vector.s3_secret_access_key": state["secret_key"],
            }
        if self.sockets is None:
            # Short: the path of a Unix socket is limited to 107 bytes.
            self.sockets = tempfile.mkdtemp(prefix="s3v-demo-", dir="/tmp")
            if run_as():
                shutil.chown(self.sockets, "postgres", "postgres")
        self.port = self.port or free_port()
        settings |= {"port": str(self.port), "unix_socket_directories": self.sockets}
        # The last setting of a name wins, and initdb's file ends with this line.
        configuration = self.data / "demo.conf"
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{name} = '{value}'\n" for name, value in settings.items()))
        if run_as():
            shutil.chown(configuration, "postgres", "postgres")
        main = self.data / "postgresql.conf"
        if "include 'demo.conf'" not in main.read_text():
            with main.open("a") as file:
                file.write("include 'demo.conf'\n")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [BIN / "postgres", "-D", self.data],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, **run_as(),
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect("postgres").close()
                return
            except psycopg.OperationalError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise DemoError(
                        f"PostgreSQL does not start ({error}), the end of {self.log}:{tail(self.log)}"
                    ) from error
            time.sleep(0.05)

    def restart(self):
        """Stops PostgreSQL and starts it again: everything it held in memory is gone."""
        stop(self.process, signal.SIGINT)
        self.start()

    def stop(self):
        """Stops the servers; the data stays."""
        stop(self.process, signal.SIGINT)
        if self.garage:
            self.garage.stop()
        if self.sockets:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def connect(self, database=DATABASE):
        """A new connection, each statement its own transaction."""
        return psycopg.connect(
            host=self.sockets, port=self.port, user="postgres", dbname=database, autocommit=True
        )


@contextmanager
def running(directory, storage, fresh):
    """A started cluster, stopped at the end whatever happens."""
    cluster = Cluster(Path(directory), storage)
    try:
        if fresh:
            cluster.create()
        cluster.start()
        yield cluster
    finally:
        cluster.stop()

"""Starts an example on a private PostgreSQL, which ends with it.

usage: start.py dictionary|retriever [ARGUMENT…]     the arguments are the example's own

`make dictionary` and `make retriever` run it. Needs what scripts/env.sh exports, and S3VECTOR_DEMO_DIR,
a folder for the cluster.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "demo"))

import cluster as servers

PROGRAMS = {"dictionary": HERE / "dictionary" / "app.py", "retriever": HERE / "retriever" / "ask.py"}


def end(*_):
    sys.exit(143)


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in PROGRAMS:
        sys.exit(__doc__)
    # A closed terminal ends everything too; Ctrl-C is the example's to handle.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    process = None
    try:
        with servers.running(os.environ["S3VECTOR_DEMO_DIR"], "file", fresh=True) as cluster:
            with cluster.connect("postgres") as connection:
                connection.execute(f"CREATE DATABASE {servers.DATABASE}")
            conninfo = f"host={cluster.sockets} port={cluster.port} user=postgres dbname={servers.DATABASE}"
            try:
                command = [sys.executable, PROGRAMS[sys.argv[1]], "--database", conninfo, *sys.argv[2:]]
                process = subprocess.Popen(command)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                return process.wait()
            finally:
                servers.stop(process, signal.SIGTERM)
    except servers.DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

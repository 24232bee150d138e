"""Opens psql in the cluster that the last `make demo` left, and stops it afterwards.

With the environment variable SQL, runs that statement instead of an interactive session.
"""

import argparse
import os
import signal
import subprocess
import sys

import cluster as servers


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", choices=("file", "s3"), default="file")
    options = parser.parse_args()
    sql = os.environ.get("SQL", "")
    try:
        with servers.running(os.environ["S3VECTOR_DEMO_DIR"], options.storage, fresh=False) as cluster:
            psql = [servers.BIN / "psql", "-X", "-h", cluster.sockets, "-p", str(cluster.port),
                    "-U", "postgres", "-d", servers.DATABASE]
            if sql:
                psql += ["-v", "ON_ERROR_STOP=1", "-c", sql]
            else:
                print(f"from another program: postgresql://postgres:{cluster.password}"
                      f"@127.0.0.1:{cluster.port}/{servers.DATABASE}", flush=True)
            # psql handles Ctrl-C itself: it cancels a query, it does not end the session.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            return subprocess.run(psql).returncode
    except servers.DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

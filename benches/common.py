"""What the benchmarks share: vectors as text and as COPY's binary form, exact answers, spreads, progress."""

import itertools
import statistics
import time

import numpy as np
import psycopg

# Rows handled at once: large enough for the matrix products, small enough for the memory.
BLOCK_ROWS = 50_000
BLOCK_BYTES = 1 << 20
COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"
START = time.monotonic()


def say(line):
    """A line of progress, with the time since the start."""
    minutes, seconds = divmod(int(time.monotonic() - START), 60)
    print(f"  [{minutes:3d}m {seconds:02d}s] {line}", flush=True)


def connect(options, database):
    """A connection to the running cluster that a program's arguments name; each statement its own transaction."""
    return psycopg.connect(
        host=options.host, port=options.port, user="postgres", dbname=database, autocommit=True)


def fresh_database(options, database):
    """A connection to a database that holds the extension and nothing else."""
    with connect(options, "postgres") as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {database}")
    connection = connect(options, database)
    connection.execute("CREATE EXTENSION s3vector CASCADE")
    return connection


def text(vector):
    """A vector as pgvector reads it."""
    return "[" + ",".join(f"{x:.7g}" for x in vector) + "]"


def lines(vectors, first):
    """Rows of COPY's text form, numbered from `first`."""
    return "".join(f"{number}\t{text(vector)}\n" for number, vector in enumerate(vectors, first)).encode()


def copy_blocks(connection, table, blocks, binary=False):
    """Seconds that COPY takes over blocks of whole or cut rows."""
    begin = time.perf_counter()
    if binary:
        blocks = itertools.chain([COPY_SIGNATURE], blocks, [COPY_END])
    with connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT {'binary' if binary else 'text'})") as copy:
        for block in blocks:
            copy.write(block)
    return time.perf_counter() - begin


def copy_lines(connection, table, data, binary=False):
    """Seconds that COPY takes over rows made beforehand: the client must not be what is measured."""
    blocks = (data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))
    return copy_blocks(connection, table, blocks, binary)


def binary_rows(vectors, first):
    """The same rows in COPY's binary form, which takes a fraction of the time to make and to read."""
    dimensions = vectors.shape[1]
    rows = np.zeros(len(vectors), dtype=[
        ("fields", ">i2"), ("id_length", ">i4"), ("id", ">i4"),
        ("length", ">i4"), ("dimensions", ">i2"), ("unused", ">i2"), ("values", ">f4", (dimensions,))])
    rows["fields"], rows["id_length"], rows["length"] = 2, 4, 4 + 4 * dimensions
    rows["id"] = np.arange(first, first + len(vectors))
    rows["dimensions"], rows["values"] = dimensions, vectors
    return rows.tobytes()


def create_table(connection, table, vectors):
    """A table (id, v) that holds these vectors, numbered from 0, settled so that nothing is left to do for it."""
    connection.execute(f"DROP TABLE IF EXISTS {table}")
    connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, v vector({vectors.shape[1]}))")
    step = BLOCK_ROWS // 10
    blocks = (binary_rows(vectors[first : first + step], first) for first in range(0, len(vectors), step))
    copy_blocks(connection, table, blocks, binary=True)
    connection.execute(f"VACUUM (ANALYZE, FREEZE) {table}")


def normalised(vectors):
    """The vectors in float32, each of length 1."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def exact(base, queries, k=10):
    """Row numbers of the k nearest by cosine, nearest first, one line a query."""
    queries = normalised(queries)
    scores, numbers = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for first in range(0, len(base), BLOCK_ROWS):
        block = queries @ normalised(base[first : first + BLOCK_ROWS]).T
        best = np.argpartition(-block, min(k, block.shape[1]) - 1, axis=1)[:, :k]
        scores = np.hstack([scores, np.take_along_axis(block, best, 1)])
        numbers = np.hstack([numbers, best + first])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(numbers, order, 1)


def share_found(answers, truth):
    """Recall: the share of the true neighbours that the answers, one list of row numbers a query, hold."""
    found = sum(len(set(answer) & set(nearest.tolist())) for answer, nearest in zip(answers, truth))
    return found / truth.size


def spread(values, digits=2):
    """Median, lowest and highest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"

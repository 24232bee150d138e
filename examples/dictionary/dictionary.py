"""The dictionary's side of PostgreSQL: a collection of definitions, and searches with their cost."""

import threading
import time

import psycopg
from pgvector.psycopg import register_vector
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

# Rows of one call of add_vectors.
BATCH = 1000


class Dictionary:
    """A collection of definitions, searched by an embedding of their meaning.

    One connection serves everybody, one at a time: a search takes a millisecond.
    """

    def __init__(self, conninfo, name="dictionary"):
        self._conninfo = conninfo
        self._name = name
        self._lock = threading.Lock()
        self._connection = None

    def _connected(self):
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._conninfo, autocommit=True)
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS s3vector CASCADE")
            register_vector(self._connection)
        return self._connection

    def close(self):
        """Ends the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()

    def exists(self):
        """Whether the collection is there."""
        with self._lock:
            names = self._connected().execute("SELECT name FROM s3vector.list_collections()").fetchall()
        return (self._name,) in names

    def load(self, entries, vectors):
        """Creates the collection, in place of one that is there, and adds entries with their vectors."""
        with self._lock:
            connection = self._connected()
            connection.execute(
                "SELECT s3vector.create_collection(%s, %s, overwrite => true)", (self._name, vectors.shape[1])
            )
            for start in range(0, len(entries), BATCH):
                rows = range(start, min(start + BATCH, len(entries)))
                # %b: vectors travel in binary, ten times as fast.
                connection.execute(
                    "SELECT s3vector.add_vectors(%s, %b, %s, %s)",
                    (self._name, [vectors[row] for row in rows], [Jsonb(entries[row]) for row in rows],
                     [f"definition {row}" for row in rows]),
                )
            # Everything to storage now; a worker would do it in its own time.
            connection.execute("SELECT s3vector_flush(%s)", (self._index(connection),))
            connection.execute(SQL("ANALYZE {}").format(Identifier(self._name)))

    def _index(self, connection):
        """The oid of the collection's s3vector index."""
        return connection.execute(
            "SELECT indexrelid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam"
            " WHERE indrelid = quote_ident(%s)::regclass AND amname = 's3vector'",
            (self._name,),
        ).fetchone()[0]

    def about(self):
        """What the collection holds and takes, as s3vector.get_collection_info() tells."""
        with self._lock, self._connected().cursor(row_factory=dict_row) as cursor:
            return cursor.execute("SELECT * FROM s3vector.get_collection_info(%s)", (self._name,)).fetchone()

    def search(self, vector, filters, limit):
        """The nearest entries that pass the filters: `id`, `score` and the entry. Also the cost: `milliseconds` of the
        statement, seen from here, and `scan`, the row of s3vector_last_scan(), or None if the index was not used."""
        with self._lock:
            connection = self._connected()
            with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
                index = self._index(connection)
                before = self._scans(connection, index)
                start = time.perf_counter()
                found = cursor.execute(
                    'SELECT id, score, metadata FROM s3vector.search_vectors(%s, %s, %s, "limit" => %s)',
                    (self._name, vector, Jsonb(filters), limit),
                ).fetchall()
                milliseconds = (time.perf_counter() - start) * 1e3
                scan = None
                # With a filter that few rows pass, PostgreSQL may rather sort those.
                if self._scans(connection, index) > before:
                    scan = cursor.execute("SELECT * FROM s3vector_last_scan()").fetchone()
        answers = [{"id": row["id"], "score": row["score"], **row["metadata"]} for row in found]
        return answers, {"milliseconds": milliseconds, "scan": scan}

    @staticmethod
    def _scans(connection, index):
        """How often this session has scanned the index in the statistics it has not yet given away."""
        return connection.execute("SELECT pg_stat_get_xact_numscans(%s)", (index,)).fetchone()[0]

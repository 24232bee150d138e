"""A collection used from psycopg: vectors as numpy arrays, metadata as dictionaries.

usage: collections_psycopg.py CONNINFO
"""

import sys

import numpy as np
import psycopg
from pgvector.psycopg import register_vector
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

import vectors
from vectors import DIMENSIONS, QUERIES, ROWS, TOP, clustered

COLOURS = ("red", "green", "blue")


def add(connection, rows, update=False):
    """Adds rows, id → (vector, metadata), in one call. Returns their ids."""
    return connection.execute(
        "SELECT s3vector.add_vectors('things', %s, %s, %s, %s)",
        ([vector for vector, _ in rows.values()], [Jsonb(metadata) for _, metadata in rows.values()],
         list(rows), update),
    ).fetchone()[0]


def search(connection, query, filters, **options):
    more = "".join(f', "{name}" => %({name})s' for name in options)
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            f"SELECT * FROM s3vector.search_vectors('things', %(query)s, %(filters)s{more})",
            {"query": query, "filters": Jsonb(filters), **options},
        )
        return cursor.fetchall()


def check(connection, rows, filters, passes):
    """Compares searches with the exact answers over the rows that a filter lets pass."""
    held = {id: vector for id, (vector, metadata) in rows.items() if passes(metadata)}
    assert connection.execute("SELECT s3vector.count_vectors('things', %s)", (Jsonb(filters),)).fetchone()[0] == len(held)
    recalls = []
    for query in clustered(2, QUERIES):
        answer = search(connection, query, filters)
        assert all(row["metadata"] == rows[row["id"]][1] and row["vector"] is None for row in answer), answer
        found = [(row["id"], 1 - row["score"]) for row in answer]
        recalls.append(vectors.check_answers("vector_cosine_ops", held, query, found))
    vectors.check_recall(recalls)


def main():
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        register_vector(connection)
        connection.execute("SELECT s3vector.create_collection('things', %s)", (DIMENSIONS,))
        rows = {
            f"thing {number}": (vector, {"colour": COLOURS[number % 3], "number": number})
            for number, vector in enumerate(clustered(1, ROWS))
        }
        assert add(connection, rows) == list(rows)
        connection.execute("ANALYZE things")
        check(connection, rows, {}, lambda metadata: True)
        check(connection, rows, {"colour": "red"}, lambda metadata: metadata["colour"] == "red")
        check(connection, rows, {"number": [100, 600]}, lambda metadata: 100 <= metadata["number"] <= 600)

        changed = {id: (vector, {"colour": "violet"}) for id, vector in zip(list(rows)[:20], clustered(4, 20))}
        try:
            add(connection, changed)
        except psycopg.errors.UniqueViolation:
            pass
        else:
            raise AssertionError("ids were added a second time")
        add(connection, changed, update=True)
        rows |= changed
        assert connection.execute(
            "SELECT s3vector.remove_vectors('things', %s)", (["thing 100", "thing 101", "never there"],)
        ).fetchone()[0] == 2
        del rows["thing 100"], rows["thing 101"]
        check(connection, rows, {}, lambda metadata: True)
        check(connection, rows, {"colour": "violet"}, lambda metadata: metadata["colour"] == "violet")

        first, second = (search(connection, clustered(2, 1)[0], {}, limit=TOP, offset=offset) for offset in (0, TOP))
        assert len(first) == len(second) == TOP and first[-1]["score"] >= second[0]["score"], (first, second)
        assert not {row["id"] for row in first} & {row["id"] for row in second}, (first, second)
        for row in search(connection, clustered(2, 1)[0], {}, limit=3, include_vectors=True):
            assert np.array_equal(row["vector"].to_numpy(), rows[row["id"]][0]), row
        connection.execute("SELECT s3vector.delete_collection('things')")
        assert connection.execute("SELECT count(*) FROM s3vector.list_collections()").fetchone()[0] == 0


if __name__ == "__main__":
    main()

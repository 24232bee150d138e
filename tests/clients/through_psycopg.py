"""pgvector's own package with psycopg, unmodified, over tables with an s3vector index.

usage: through_psycopg.py CONNINFO

Values travel as text and as binary. For each metric: creates a table, fills it (INSERT and COPY),
creates the index, asks, changes rows and asks again, drops it.
"""

import sys

import numpy as np
import psycopg
from pgvector.psycopg import register_vector

import vectors
from vectors import DIMENSIONS, METRICS, QUERIES, ROWS, TOP, clustered


def fill(connection, rows):
    """Half of the rows by INSERT, half by COPY."""
    items = list(rows.items())
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO items (id, embedding) VALUES (%s, %s)", items[: ROWS // 2])
        with cursor.copy("COPY items (id, embedding) FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "vector"])
            for item in items[ROWS // 2 :]:
                copy.write_row(item)


def ask(connection, opclass, query, binary):
    """Ids and distances of the nearest rows, found by the index."""
    operator = METRICS[opclass][0]
    sql = f"SELECT id, embedding, embedding {operator} %(q)s FROM items ORDER BY embedding {operator} %(q)s LIMIT {TOP}"
    plan = connection.execute(f"EXPLAIN {sql}", {"q": query})
    vectors.check_plan([line for line, in plan], "items_embedding_idx")
    return connection.execute(sql, {"q": query}, binary=binary).fetchall()


def check(connection, opclass, rows, binary):
    recalls = []
    for query in clustered(2, QUERIES):
        answer = ask(connection, opclass, query, binary)
        for id, embedding, _ in answer:
            assert np.array_equal(embedding.to_numpy(), rows[id]), f"row {id} has other values"
        recalls.append(vectors.check_answers(opclass, rows, query, [(id, distance) for id, _, distance in answer]))
    vectors.check_recall(recalls)


def journey(connection, opclass, binary):
    rows = dict(enumerate(clustered(1, ROWS)))
    connection.execute(f"CREATE TABLE items (id bigint PRIMARY KEY, embedding vector({DIMENSIONS}))")
    fill(connection, rows)
    connection.execute(f"CREATE INDEX ON items USING s3vector (embedding {opclass}) WITH (m = 16, ef_construction = 64)")
    connection.execute("ANALYZE items")
    check(connection, opclass, rows, binary)

    for id, vector in enumerate(clustered(3, 300), start=ROWS):
        rows[id] = vector
        connection.execute("INSERT INTO items VALUES (%s, %s)", (id, vector))
    for id, vector in enumerate(clustered(4, 100)):
        rows[id] = vector
        connection.execute("UPDATE items SET embedding = %s WHERE id = %s", (vector, id))
    for id in range(100, 200):
        del rows[id]
    assert connection.execute("DELETE FROM items WHERE id BETWEEN 100 AND 199").rowcount == 100
    check(connection, opclass, rows, binary)
    connection.execute("DROP TABLE items")


def main():
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        register_vector(connection)
        for binary in (False, True):
            for opclass in METRICS:
                journey(connection, opclass, binary)


if __name__ == "__main__":
    main()

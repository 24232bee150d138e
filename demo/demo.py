"""The demo: a dictionary that answers descriptions, its vectors on object storage.

Starts a private PostgreSQL, loads WordNet definitions with their embeddings, creates an s3vector
index, asks questions, and shows what was stored where. Run it with `make demo`.
"""

import argparse
import gzip
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import zarr

import cluster as servers
import questions
import report
import tree
from store import FileStore, S3Store

SAMPLE = Path(__file__).parent / "data"
# Below this something is broken: the demo says so and fails.
RECALL_FLOOR = 0.9


def load(connection, rows):
    """Creates the table and copies the sample into it."""
    sample = np.load(SAMPLE / "embeddings.npz")
    embeddings = sample["definitions"].astype(np.float32)
    with gzip.open(SAMPLE / "definitions.tsv.gz", "rt", encoding="utf-8") as file:
        definitions = [line.rstrip("\n").split("\t") for line in file]
    if not 1 <= rows <= len(definitions):
        raise servers.DemoError(f"ROWS is {rows}, the sample holds {len(definitions):,}")
    connection.execute("CREATE EXTENSION s3vector CASCADE")
    connection.execute(
        "CREATE TABLE definitions (id int PRIMARY KEY, words text, part text, gloss text,"
        f" embedding vector({embeddings.shape[1]}))"
    )
    with connection.cursor() as cursor, cursor.copy("COPY definitions FROM STDIN") as copy:
        for number in range(rows):
            copy.write_row((number, *definitions[number], questions.vector(embeddings[number])))
    connection.execute("VACUUM ANALYZE definitions")
    return embeddings.shape[1], sample["questions"]


def open_store(cluster):
    """The store that the index was written to, for looking at."""
    if cluster.storage == "file":
        return FileStore(f"{cluster.data}.s3vector")
    garage = cluster.garage
    return S3Store(
        garage.endpoint, servers.REGION, servers.BUCKET, "demo", garage.access_key, garage.secret_key
    )


def check_with_zarr(cluster, connection):
    """Opens the segment with zarr-python and compares a row of it with the table's column."""
    prefix = connection.execute("SELECT prefix FROM s3vector_segments('definitions_embedding_idx')").fetchone()[0]
    segment = zarr.open_group(f"{cluster.data}.s3vector/{prefix}", mode="r")
    tid = int(segment["tids"][int(segment["tid_offsets"][0])])
    words, text = connection.execute(
        "SELECT words, embedding::text FROM definitions WHERE ctid = format('(%%s,%%s)', %s::bigint, %s::bigint)::tid",
        (tid >> 16, tid & 0xFFFF),
    ).fetchone()
    stored = segment["vectors"][0].astype(np.float32)
    if not np.array_equal(stored, np.array(text.strip("[]").split(","), dtype=np.float32)):
        raise servers.DemoError(f"row 0 of {prefix}/vectors is not the table's embedding of '{words}'")
    print()
    report.line(f"zarr.open_group(…)['vectors'][0] is the table's embedding of '{report.fit(words, 40)}', bit for bit")


def ask(connection, embeddings):
    """Asks every question, prints some. Returns the mean recall."""
    texts = (SAMPLE / "questions.txt").read_text().splitlines()
    answers = {}
    for text in sorted(texts, key=lambda text: text not in questions.SHOWN):
        answers[text] = questions.Answer(connection, embeddings[texts.index(text)])
    for text in questions.SHOWN:
        questions.show(text, answers[text])
    recall = statistics.mean(answer.recall for answer in answers.values())
    print()
    report.line(report.bold(
        f"all {len(texts)} questions: recall@{questions.TOP} {recall:.3f},"
        f" warm median {report.milliseconds(statistics.median(answer.warm for answer in answers.values()))}"
    ))
    waves = max(answer.scan["waves"] for answer in answers.values())
    requests = statistics.mean(answer.scan["requests"] for answer in answers.values())
    report.line(report.dim(
        f"asked for the first time, a question waited for at most {report.count(waves, 'wave')}"
        f" of fetches, {requests:.1f} requests on average"
    ))
    return recall


def show_memory(connection, rows, stored):
    """Prints what lies in memory and on the database's disk, beside pgvector's hnsw."""
    graph = connection.execute("SELECT sum(bytes) FROM s3vector_stat_graphs").fetchone()[0] or 0
    capacity, used = connection.execute("SELECT capacity_bytes, used_bytes FROM s3vector_stat_cache").fetchone()
    relation = connection.execute("SELECT pg_relation_size('definitions_embedding_idx')").fetchone()[0]
    connection.execute("CREATE INDEX compared ON definitions USING hnsw (embedding vector_cosine_ops)")
    pgvector = connection.execute("SELECT pg_relation_size('compared')").fetchone()[0]
    connection.execute("DROP INDEX compared")

    def row(label, value, note=""):
        report.line(f"{label:<30} {report.size(value):>9}  {value / rows:>7,.0f} bytes a row   {report.dim(note)}")

    row("graph and codes in memory", graph, "all that a search walks")
    row("on the database's disk", relation, "the index relation")
    row("on object storage", stored, "the index in full")
    row("pgvector's hnsw, same rows", pgvector, "on disk, and in memory to be fast")
    report.line(report.dim(f"payload cache: {report.size(used)} of {report.size(capacity)} used"))


def run(cluster, rows):
    """The demo on a started cluster."""
    connection = cluster.connect("postgres")
    connection.execute(f"CREATE DATABASE {servers.DATABASE}")
    connection.close()
    connection = cluster.connect()

    report.heading("Load")
    start = time.perf_counter()
    dimensions, question_embeddings = load(connection, rows)
    report.line(f"{rows:,} WordNet definitions with {dimensions}-dimensional MiniLM embeddings"
                f" {report.dim(f'({time.perf_counter() - start:.1f}s)')}")

    report.heading("Index")
    statement = "CREATE INDEX ON definitions USING s3vector (embedding vector_cosine_ops)"
    report.line(report.cyan(statement))
    start = time.perf_counter()
    connection.execute(statement)
    seconds = time.perf_counter() - start
    report.line(f"built and stored in {seconds:.2f}s, {rows / seconds:,.0f} rows/s")
    connection.close()
    cluster.restart()
    report.line(report.dim("PostgreSQL restarted: nothing in memory, no cache; the store has it all"))

    report.heading("Ask")
    connection = cluster.connect()
    report.line(report.cyan("SELECT … FROM definitions ORDER BY embedding <=> $1 LIMIT 10"))
    report.line(report.dim("the questions' embeddings come with the sample; milliseconds are the server's own"))
    recall = ask(connection, question_embeddings)

    report.heading("Stored")
    stored = tree.show(open_store(cluster))
    if cluster.storage == "file":
        check_with_zarr(cluster, connection)

    report.heading("Memory and disk")
    show_memory(connection, rows, stored)
    connection.close()
    return recall


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--storage", choices=("file", "s3"), default="file")
    parser.add_argument("--rows", type=int, default=10_000)
    options = parser.parse_args()
    try:
        report.heading("Start")
        start = time.perf_counter()
        with servers.running(os.environ["S3VECTOR_DEMO_DIR"], options.storage, fresh=True) as cluster:
            where = "in a folder" if options.storage == "file" else f"on S3 (Garage at {cluster.garage.endpoint})"
            report.line(f"a private PostgreSQL, vectors stored {where}"
                        f" {report.dim(f'({time.perf_counter() - start:.1f}s)')}")
            try:
                recall = run(cluster, options.rows)
            except servers.DemoError:
                raise
            except Exception as error:
                raise servers.DemoError(f"{error}\nthe end of {cluster.log}:{servers.tail(cluster.log)}") from error
    except servers.DemoError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130

    report.heading("Look around")
    suffix = "" if options.storage == "file" else " STORAGE=s3"
    report.line("everything is stopped; the cluster waits in " + os.environ["S3VECTOR_DEMO_DIR"])
    report.line(f"{report.bold(f'make demo-shell{suffix}')}   starts it, opens psql, stops it when you leave; then try")
    report.line("    SELECT words, gloss FROM definitions")
    report.line("      ORDER BY embedding <=> (SELECT embedding FROM definitions WHERE words = 'guitar') LIMIT 5;")
    report.line("    SELECT * FROM s3vector_last_scan();")
    report.line("    SELECT * FROM s3vector_index_info('definitions_embedding_idx') \\gx")
    report.line("    SELECT * FROM s3vector_stat_graphs;  SELECT * FROM s3vector_stat_cache;")
    if recall < RECALL_FLOOR:
        print(f"\nerror: recall@{questions.TOP} is {recall:.3f}, expected at least {RECALL_FLOOR}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Asks questions of the indexed definitions, and judges the answers against an exact scan."""

import statistics

import report

TOP = 10
# Questions whose answers are shown; the others count for the recall only.
SHOWN = (
    "the fear of open spaces",
    "a device for measuring temperature",
    "instrument with six strings",
    "not willing to spend money",
    "a person who studies the stars",
    "particle smaller than an atom",
)
WARM_RUNS = 7

_NEAREST = (
    "SELECT id, words, part, gloss, embedding <=> %(q)s::vector AS distance "
    f"FROM definitions ORDER BY embedding <=> %(q)s::vector LIMIT {TOP}"
)


def vector(values):
    """PostgreSQL's text of a vector, exact for float32."""
    return "[" + ",".join(f"{value:.9g}" for value in values) + "]"


def exact(connection, embedding):
    """The true nearest rows, from a scan of the whole table."""
    with connection.transaction():
        connection.execute("SET LOCAL enable_indexscan = off")
        return connection.execute(_NEAREST, {"q": vector(embedding)}).fetchall()


def recall(found, truth):
    """The share of the true nearest rows found; rows as near as the last of them count too."""
    limit = truth[-1][4] + 1e-6
    return sum(row[4] <= limit for row in found) / len(truth)


def timed(connection, embedding):
    """Runs the query once: server-side milliseconds, and the plan's node that did the work."""
    plan = connection.execute(
        f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {_NEAREST}", {"q": vector(embedding)}
    ).fetchone()[0][0]
    node = plan["Plan"]
    while "Plans" in node:
        node = node["Plans"][0]
    return plan["Execution Time"], node


class Answer:
    """One question answered: the rows, how good they are, how long it took, what was fetched."""

    def __init__(self, connection, embedding):
        self.cold, node = timed(connection, embedding)
        if node.get("Index Name") != "definitions_embedding_idx":
            raise ValueError(f"the planner did not choose the index but a {node['Node Type']}")
        cursor = connection.execute("SELECT * FROM s3vector_last_scan()")
        self.scan = dict(zip((column.name for column in cursor.description), cursor.fetchone()))
        self.warm = statistics.median(timed(connection, embedding)[0] for _ in range(WARM_RUNS))
        self.rows = connection.execute(_NEAREST, {"q": vector(embedding)}).fetchall()
        self.recall = recall(self.rows, exact(connection, embedding))


def show(question, answer, shown=3):
    """Prints a question with its best answers and what they cost."""
    scan = answer.scan
    print()
    report.line(f"{report.bold('?')} {report.bold(question)}")
    for _, words, part, gloss, distance in answer.rows[:shown]:
        text = report.fit(f"{report.fit(words, 34)} ({part}): {gloss}", report.WIDTH - 11)
        report.line(f"  {distance:.3f}  {text}")
    report.line(report.dim(
        f"  cold {report.milliseconds(answer.cold)}, warm {report.milliseconds(answer.warm)}"
        f" · recall@{TOP} {answer.recall:.2f}"
        f" · fetched {report.count(scan['chunks_fetched'], 'chunk')}, {report.size(scan['bytes'])},"
        f" in {report.count(scan['requests'], 'request')}, {report.count(scan['waves'], 'wave')}"
    ))

"""The indexes that are measured beside each other: how each is built and which settings trade recall for speed."""

from dataclasses import dataclass, field

# How thoroughly the searches of graphs go, from fast to exact; fine, so that rates at a recall in between are known.
BEAMS = (10, 14, 20, 28, 40, 56, 80, 112, 160, 240, 320)


@dataclass(frozen=True)
class System:
    """`extension` and `index` are what its SQL says; `{lists}` in the latter depends on the rows. `settings` are
    what a session sets for each of its points. `settle` leaves an index as a build does after rows were added."""

    name: str
    extension: str | None = None
    index: str | None = None
    settings: dict = field(default_factory=dict)
    slow_insert: bool = False
    settle: str | None = None

    def create(self, table, rows):
        lists = max(10, int(4 * rows**0.5))
        return f"CREATE INDEX {table}_ix ON {table} USING {self.index}".replace("{lists}", str(lists))


def beams(setting):
    return {f"ef {beam}": {setting: beam} for beam in BEAMS}


S3VECTOR = System(
    "s3vector", "s3vector", "s3vector (v vector_cosine_ops) WITH (m = 16, ef_construction = 64)",
    beams("s3vector.ef_search"), settle="SELECT s3vector_flush('{index}')")
PGVECTOR = System(
    "pgvector", "vector", "hnsw (v vector_cosine_ops) WITH (m = 16, ef_construction = 64)",
    beams("hnsw.ef_search"), slow_insert=True)
VECTORCHORD = System(
    "vchordrq", "vchord",
    "vchordrq (v vector_cosine_ops) WITH (options = $$ residual_quantization = true\n"
    "[build.internal]\nlists = [{lists}]\nspherical_centroids = true\nbuild_threads = 2 $$)",
    {f"probes {probes}": {"vchordrq.probes": probes, "vchordrq.epsilon": 1.9}
     for probes in (3, 5, 7, 10, 14, 20, 28, 40, 56, 80)})
DISKANN = System(
    "diskann", "vectorscale", "diskann (v vector_cosine_ops)",
    {f"list {size}, rescore {rescore}": {"diskann.query_search_list_size": size, "diskann.query_rescore": rescore}
     for size, rescore in ((10, 20), (20, 20), (35, 35), (50, 50), (100, 50), (100, 100), (200, 200), (400, 400))},
    slow_insert=True)
# What COPY is measured against: the table alone.
PLAIN = System("no index")

# s3vector first: every other one is compared with it.
INDEXES = (S3VECTOR, PGVECTOR, VECTORCHORD, DISKANN)
# What has to be loaded when the server starts, by the name of its file.
LIBRARIES = ("s3vector", "vchord")


def available(connection):
    """The indexes whose extension is installed; creates these."""
    names = {name for (name,) in connection.execute("SELECT name FROM pg_available_extensions")}
    found = [system for system in INDEXES if system.extension in names]
    if S3VECTOR not in found:
        raise SystemExit("the extension s3vector is not installed in this PostgreSQL: run scripts/install.sh")
    for system in found:
        connection.execute(f"CREATE EXTENSION IF NOT EXISTS {system.extension} CASCADE")
    return found

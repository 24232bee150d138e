"""Measures one index of PostgreSQL on its own copy of a table."""

import os
import re
import subprocess
import tempfile
import time

import common
from systems import S3VECTOR


class Indexed:
    """A system's index on a table of its own, so that the systems can be measured in turn."""

    def __init__(self, postgres, system, dataset, work_memory):
        self.postgres, self.system, self.dataset = postgres, system, dataset
        self.name, self.settings = system.name, list(system.settings)
        self.table = re.sub(r"\W", "_", f"{dataset.name}_{system.name}")
        self.connection = postgres.connect()
        self.connection.execute("SET enable_seqscan = off")
        self.connection.execute("SET max_parallel_maintenance_workers = 2")
        self.connection.execute(f"SET maintenance_work_mem = '{work_memory}'")
        common.create_table(self.connection, self.table, dataset.base)

    def query(self, number):
        return (f"SELECT id FROM {self.table} ORDER BY v <=> "
                f"(SELECT v FROM {self.dataset.name}_queries WHERE id = {number}) LIMIT 10")

    def build(self):
        """Builds the index anew: rows a second, the scan of the table included."""
        self.connection.execute(f"DROP INDEX IF EXISTS {self.table}_ix")
        self.connection.execute("CHECKPOINT")
        begin = time.perf_counter()
        self.connection.execute(self.system.create(self.table, len(self.dataset.base)))
        return len(self.dataset.base) / (time.perf_counter() - begin)

    def warm(self):
        """Brings table and index into memory."""
        for relation in (self.table, f"{self.table}_pkey", f"{self.table}_ix"):
            self.connection.execute("SELECT pg_prewarm(%s)", (relation,))
        if self.system is S3VECTOR:
            self.connection.execute("SELECT s3vector_prewarm(%s)", (f"{self.table}_ix",))

    def bytes_a_row(self):
        """Memory that the index needs to be fast. Of s3vector that is graph and codes; what the payload cache
        holds beside them is for the administrator to choose."""
        sql = ("SELECT resident_bytes::float8 / rows FROM s3vector_index_info(%s)" if self.system is S3VECTOR
               else f"SELECT pg_relation_size(%s)::float8 / {len(self.dataset.base)}")
        return self.connection.execute(sql, (f"{self.table}_ix",)).fetchone()[0]

    def recall(self, setting):
        for name, value in self.system.settings[setting].items():
            self.connection.execute(f"SET {name} = {value}")
        answers = [
            [row[0] for row in self.connection.execute(self.query("%s::int"), (number,), prepare=True)]
            for number in range(len(self.dataset.queries))]
        return common.share_found(answers, self.dataset.truth)

    def rate(self, setting, seconds, clients=1):
        """Queries a second."""
        return pgbench(self.postgres, self.query(":i"), len(self.dataset.queries), seconds, clients,
                       {"enable_seqscan": "off", **self.system.settings[setting]})

    def floor(self, seconds):
        """Queries a second that find a row by its key: no index of vectors can be faster."""
        return pgbench(self.postgres, f"SELECT id FROM {self.table} WHERE id = :i", len(self.dataset.base), seconds)

    def copy(self, data, rows):
        """Rows a second of COPY into the indexed table, which is left as it was."""
        self.connection.execute("CHECKPOINT")
        rate = rows / common.copy_lines(self.connection, self.table, data)
        self.connection.execute(f"DELETE FROM {self.table} WHERE id >= {len(self.dataset.base)}")
        self.connection.execute(f"VACUUM {self.table}")
        if self.system.settle:
            self.connection.execute(self.system.settle.replace("{index}", f"{self.table}_ix"))
        return rate

    def drop(self):
        self.connection.execute(f"DROP TABLE {self.table}")
        self.connection.close()


def pgbench(postgres, statement, numbers, seconds, clients=1, settings=None):
    """Statements a second, prepared; `:i` in them is any number below `numbers`."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(f"\\set i random(0, {numbers - 1})\n{statement};\n")
        script.flush()
        options = " ".join(f"-c {name}={value}" for name, value in (settings or {}).items())
        done = subprocess.run(
            [postgres.bin / "pgbench", "-n", "-M", "prepared", "-f", script.name, "-T", str(seconds),
             "-c", str(clients), "-j", str(clients), "-h", postgres.sockets, "-U", "postgres", "postgres"],
            env=os.environ | {"PGOPTIONS": options}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"pgbench failed: {done.stdout}{done.stderr}")
    return float(found.group(1))

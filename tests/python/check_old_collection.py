"""Compares a collection with the folder of the Python engine that it was imported from.

usage: check_old_collection.py SOCKET_FOLDER FOLDER COLLECTION

Every id of every batch must be a row with that batch's vector (bit for bit) and metadata. Prints the number of rows.
"""

import json
import sys
from pathlib import Path

import numpy as np
import psycopg
import zarr


def main():
    socket, folder, collection = sys.argv[1:]
    stored = {}
    for batch in Path(folder).glob("shards/shard_*/batch_*"):
        vectors = zarr.open_array(batch / "vectors", mode="r")[:]
        beside = json.loads((batch / "metadata.json").read_text())
        for vector, identifier, metadata in zip(vectors, beside["ids"], beside["metadata"], strict=True):
            stored[identifier] = (vector, metadata)
    with psycopg.connect(host=socket, user="postgres", dbname="postgres") as connection:
        rows = connection.execute(f'SELECT id, embedding::text, metadata FROM "{collection}"').fetchall()
    assert {row[0] for row in rows} == set(stored), "ids differ"
    for identifier, text, metadata in rows:
        vector, expected = stored[identifier]
        found = np.array(text.strip("[]").split(","), dtype=np.float32)
        assert np.array_equal(found, vector), f"vector of {identifier}"
        assert metadata == expected, f"metadata of {identifier}: {metadata} instead of {expected}"
    print(len(rows))


main()

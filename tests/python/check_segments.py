"""Compares the segments of an index with its table, reading them as any Zarr user would.

usage: check_segments.py SOCKET_FOLDER STORE INDEX TABLE

Every row of the table must be in exactly one segment, at the row that `tids` and `tid_offsets`
say, and `vectors` must hold the column's values: bit for bit as float32, rounded as float16.
Prints the number of segments, of segment rows and of table rows.
"""

import sys

import numpy as np
import psycopg
import zarr


def main():
    socket, store, index, table = sys.argv[1:]
    with psycopg.connect(host=socket, user="postgres", dbname="postgres") as connection:
        column = {}
        rows = connection.execute(
            f"SELECT ctid::text, embedding::text FROM {table} WHERE embedding IS NOT NULL"
        )
        for tid, vector in rows:
            block, offset = tid.strip("()").split(",")
            column[int(block) << 16 | int(offset)] = np.array(vector.strip("[]").split(","), dtype=np.float32)
        segments = connection.execute(
            "SELECT prefix, rows, entries FROM s3vector_segments(%s::text::regclass)", (index,)
        ).fetchall()

    seen = set()
    total = 0
    for prefix, rows, entries in segments:
        segment = zarr.open_group(f"{store}/{prefix}", mode="r")
        vectors, tids, offsets = segment["vectors"][:], segment["tids"][:], segment["tid_offsets"][:]
        assert len(vectors) == rows, f"{len(vectors)} vectors, the manifest says {rows}"
        assert len(tids) == entries, f"{len(tids)} tids, the manifest says {entries}"
        assert len(offsets) == rows + 1 and offsets[0] == 0 and offsets[-1] == entries, "tid_offsets do not span tids"
        assert segment["vectors"].metadata.dimension_names == ("row", "dimension"), segment["vectors"].metadata
        for row in range(rows):
            assert offsets[row] < offsets[row + 1], f"row {row} has no tid"
            for tid in tids[offsets[row] : offsets[row + 1]].tolist():
                assert tid not in seen, f"tid {tid} is there twice"
                seen.add(tid)
                expected = column[tid].astype(vectors.dtype)
                assert np.array_equal(vectors[row], expected), f"row {row}: {vectors[row]} is not {expected}"
        # Every array must be readable to its end, not only those compared above.
        for name, array in segment.arrays():
            assert array[...].shape == array.shape, name
        total += rows
    assert seen == set(column), f"{len(seen)} rows in segments, {len(column)} in the table"
    print(len(segments), total, len(column))


if __name__ == "__main__":
    main()

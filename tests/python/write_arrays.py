"""Writes a group of arrays as others write them: vectors in Zarr v2 and v3 under several codecs, with ids.

usage: write_arrays.py FOLDER ROWS DIMENSIONS

Writes FOLDER/v2.zarr and FOLDER/v3.zarr, with the arrays `plain`, `blosc`, `zstd`, `gzip`, `lz4` (v2 only), `half` (float16) and
`number` (integer ids) each, and FOLDER/expected.txt: a vector a line, as PostgreSQL's text.
"""

import sys
from pathlib import Path

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec


def main():
    folder, rows, dimensions = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    # Halves and quarters are the same numbers in float16.
    values = np.random.default_rng(7).integers(-40, 40, (rows, dimensions)).astype(np.float32) / 4
    chunks = (max(1, rows // 7), max(1, dimensions // 2))
    numbers = np.arange(rows, dtype=np.int32) * 3 + 1
    for version, codecs in {
        2: {"plain": None, "blosc": numcodecs.Blosc("lz4"), "zstd": numcodecs.Zstd(), "gzip": numcodecs.GZip(),
            "lz4": numcodecs.LZ4()},
        3: {"plain": None, "blosc": BloscCodec(cname="zstd"), "zstd": ZstdCodec(), "gzip": GzipCodec()},
    }.items():
        group = zarr.open_group(folder / f"v{version}.zarr", mode="w", zarr_format=version)
        for name, codec in codecs.items():
            array = group.create_array(
                name, shape=values.shape, chunks=chunks, dtype="float32", compressors=codec)
            array[:] = values
        group.create_array("half", shape=values.shape, chunks=chunks, dtype="float16")[:] = values
        group.create_array("number", shape=(rows,), chunks=(100,), dtype="int32")[:] = numbers
    lines = ("[" + ",".join(f"{x:g}" for x in row) + "]\n" for row in values)
    (folder / "expected.txt").write_text("".join(lines))


main()

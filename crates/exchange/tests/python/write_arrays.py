"""Writes arrays as zarr-python does, in every form that is read; beside each what it holds.

    write_arrays.py FOLDER

Prints one line an array: its group, and the names of the arrays of ids and metadata or "-".
`expected.npy` in the folder of a group holds the vectors as float32, `expected.json` the rest.
"""

import json
import pathlib
import sys
import warnings

import numcodecs
import numpy as np
import zarr
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    VLenUTF8Codec,
    ZstdCodec,
)
from zarr.codecs import numcodecs as zarr_numcodecs

ROOT = pathlib.Path(sys.argv[1])
ROWS, DIMENSIONS = 103, 17
GENERATOR = np.random.default_rng(5)

# What numcodecs and strings of fixed length have to say about not being in the specification.
warnings.simplefilter("ignore")


def vectors(rows=ROWS, dimensions=DIMENSIONS, dtype="<f4"):
    """Numbers that float16 holds exactly, some rows of zeros among them."""
    values = GENERATOR.integers(-2048, 2048, (rows, dimensions)) / 256
    values[10:40] = 0
    return values.astype(dtype)


def note(name, values, ids=None, metadata=None, texts=None):
    """Tells the reader what to expect of the group `name`."""
    folder = ROOT / name
    np.save(folder / "expected.npy", np.ascontiguousarray(values).astype("<f4"))
    (folder / "expected.json").write_text(json.dumps(texts or {}))
    print(name, ids or "-", metadata or "-")


def v2(name, dtype="<f4", chunks=(20, 17), order="C", separator=".", fill=0.0, rows=ROWS, **options):
    group = zarr.open_group(ROOT / name, mode="w", zarr_format=2)
    values = vectors(rows=rows, dtype=dtype)
    array = group.create_array(
        "vectors",
        shape=values.shape,
        dtype=np.dtype(dtype),
        chunks=chunks,
        order=order,
        chunk_key_encoding={"name": "v2", "separator": separator},
        fill_value=fill,
        **options,
    )
    array[:] = values
    note(name, values)


def v3(name, dtype="<f4", chunks=(20, 17), fill=0.0, keep=slice(None), **options):
    group = zarr.open_group(ROOT / name, mode="w", zarr_format=3)
    values = vectors(dtype=dtype)
    array = group.create_array(
        "vectors", shape=values.shape, dtype=np.dtype(dtype), chunks=chunks, fill_value=fill, **options
    )
    array[keep] = values[keep]
    note(name, array[:])


def blosc():
    for cname in ("lz4", "lz4hc", "blosclz", "zlib", "zstd", "snappy"):
        if cname not in numcodecs.blosc.list_compressors():
            continue
        for shuffle in (-1, 0, 1, 2):
            compressor = numcodecs.Blosc(cname=cname, clevel=5, shuffle=shuffle)
            v2(f"v2-blosc-{cname}-{shuffle}", compressors=compressor)
        for number, shuffle in enumerate(("noshuffle", "shuffle", "bitshuffle")):
            compressor = BloscCodec(cname=cname, clevel=5, shuffle=shuffle)
            v3(f"v3-blosc-{cname}-{shuffle}", compressors=compressor)
            compressor = zarr_numcodecs.Blosc(cname=cname, clevel=5, shuffle=number)
            v3(f"v3-numcodecs-blosc-{cname}-{shuffle}", compressors=compressor)


def compressors():
    v2("v2-zstd", compressors=numcodecs.Zstd(level=5))
    v2("v2-zstd-checksum", compressors=numcodecs.Zstd(level=5, checksum=True))
    v2("v2-lz4", compressors=numcodecs.LZ4())
    v2("v2-gzip", compressors=numcodecs.GZip(level=5))
    v2("v2-zlib", compressors=numcodecs.Zlib(level=5))
    v2("v2-bz2", compressors=numcodecs.BZ2(level=5))
    v2("v2-none", compressors=None)
    v2("v2-default")
    v2("v2-filter-shuffle", filters=[numcodecs.Shuffle(elementsize=4)], compressors=numcodecs.LZ4())
    for checksum in (numcodecs.Adler32(), numcodecs.Fletcher32()):
        v2(f"v2-{checksum.codec_id}", filters=[checksum], compressors=None)
    v3("v3-zstd", compressors=ZstdCodec(level=5))
    v3("v3-zstd-checksum", compressors=ZstdCodec(level=5, checksum=True))
    v3("v3-gzip", compressors=GzipCodec(level=5))
    v3("v3-crc32c", compressors=[ZstdCodec(level=1), Crc32cCodec()])
    v3("v3-none", compressors=None)
    v3("v3-default")
    v3("v3-numcodecs-lz4", compressors=zarr_numcodecs.LZ4())
    v3("v3-numcodecs-zstd", compressors=zarr_numcodecs.Zstd(level=5))
    v3("v3-numcodecs-gzip", compressors=zarr_numcodecs.GZip(level=5))
    v3("v3-numcodecs-zlib", compressors=zarr_numcodecs.Zlib(level=5))
    v3("v3-numcodecs-bz2", compressors=zarr_numcodecs.BZ2(level=5))
    v3("v3-numcodecs-shuffle", compressors=[zarr_numcodecs.Shuffle(elementsize=4), ZstdCodec()])
    v3("v3-numcodecs-crc32c", compressors=[ZstdCodec(), zarr_numcodecs.CRC32C()])
    v3("v3-numcodecs-adler32", compressors=[ZstdCodec(), zarr_numcodecs.Adler32()])


def layouts():
    for dtype in ("<f4", ">f4", "<f2", ">f2"):
        for order in "CF":
            for chunks in ((20, 17), (7, 5), (200, 30), (1, 17), (103, 1)):
                plain = dtype.replace("<", "little-").replace(">", "big-")
                name = f"{plain}-{order}-{chunks[0]}x{chunks[1]}"
                v2(f"v2-{name}", dtype=dtype, order=order, chunks=chunks)
                endian = "big" if dtype[0] == ">" else "little"
                filters = [TransposeCodec(order=(1, 0))] if order == "F" else []
                v3(
                    f"v3-{name}",
                    dtype="<" + dtype[1:],
                    chunks=chunks,
                    filters=filters,
                    serializer=BytesCodec(endian=endian),
                )
    v2("v2-slash", separator="/")
    v2("v2-fill", fill=np.nan)
    v2("v2-null", fill=None)
    v2("v2-empty", rows=0, chunks=(20, 17))
    v3("v3-nan", fill=np.nan, keep=slice(0, 50))
    v3("v3-missing", fill=-1.5, keep=slice(45, 70))
    v3("v3-dot", chunk_key_encoding={"name": "default", "separator": "."})
    v3("v3-as-v2", chunk_key_encoding={"name": "v2", "separator": "."})


def shards():
    for chunks, shards in (((5, 17), (50, 17)), ((10, 4), (20, 8)), ((1, 1), (103, 17)), ((20, 20), (200, 60))):
        for location in ("start", "end"):
            for compressors in (None, ZstdCodec(level=1), zarr_numcodecs.LZ4()):
                inner = [BytesCodec(), *([compressors] if compressors else []), Crc32cCodec()]
                kind = type(compressors).__name__ if compressors else "none"
                name = f"v3-shards-{chunks[0]}x{chunks[1]}-{location}-{kind}"
                v3(
                    name,
                    chunks=shards,
                    serializer=ShardingCodec(chunk_shape=chunks, codecs=inner, index_location=location),
                    compressors=None,
                )
    v3("v3-shards-default", chunks=(5, 17), shards=(50, 17))
    v3("v3-shards-missing", chunks=(5, 17), shards=(50, 17), fill=2.0, keep=slice(33, 55))
    v3("v3-shards-packed", chunks=(50, 17), serializer=ShardingCodec(chunk_shape=(5, 17)), compressors=GzipCodec())
    inner = ShardingCodec(chunk_shape=(5, 17))
    v3("v3-shards-nested", chunks=(100, 17), serializer=ShardingCodec(chunk_shape=(50, 17), codecs=[inner]), compressors=None)


def columns():
    """Ids and metadata beside the vectors."""
    names = [f"wört-{row}-{'x' * (row % 9)}" for row in range(ROWS)]
    objects = [json.dumps({"row": row, "text": "ä" * (row % 40)}) for row in range(ROWS)]
    for version in (2, 3):
        name = f"v{version}-columns"
        group = zarr.open_group(ROOT / name, mode="w", zarr_format=version)
        values = vectors()
        array = group.create_array("vectors", shape=values.shape, dtype="<f4", chunks=(13, 17))
        array[:] = values
        texts = {}

        def column(title, data, dtype, **options):
            array = group.create_array(title, shape=(ROWS,), dtype=dtype, chunks=(30,), **options)
            array[:] = data
            texts[title] = [str(one) for one in data]

        column("names", np.array(names, dtype=object), str)
        column("objects", np.array(objects, dtype=object), str)
        column("fixed", np.array(names, dtype="U24"), "U24")
        if version == 2:
            column("fixed_big", np.array(names, dtype=">U24"), np.dtype(">U24"))
            column("names_lz4", np.array(names, dtype=object), str, compressors=numcodecs.LZ4())
        else:
            column("names_sharded", np.array(names, dtype=object), str, shards=(60,))
            column("names_plain", np.array(names, dtype=object), str, compressors=None, serializer=VLenUTF8Codec())
        for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
            numbers = np.arange(ROWS).astype(kind)
            numbers[-1] = np.iinfo(kind).max
            numbers[0] = np.iinfo(kind).min
            column(kind, numbers, kind)
            if version == 2:
                column(f"{kind}_big", numbers, np.dtype(kind).newbyteorder(">"))
        for title in texts:
            ids, metadata = ("-", title) if title == "objects" else (title, "-")
            (ROOT / name).mkdir(exist_ok=True)
            np.save(ROOT / name / "expected.npy", values)
            (ROOT / name / "expected.json").write_text(json.dumps(texts))
            print(name, ids, metadata)


ROOT.mkdir(exist_ok=True)
blosc()
compressors()
layouts()
shards()
columns()

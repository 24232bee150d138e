"""Opens an export with zarr-python and with xarray, as a user would; compares every value.

    check_export.py FOLDER ROWS DIMENSIONS

The value of a row is known: see `tests/python.rs`.
"""

import json
import sys

import numpy as np
import xarray
import zarr

folder, rows, dimensions = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
vectors = (np.arange(rows * dimensions, dtype="<f4") / 8 - 100).reshape(rows, dimensions)
ids = [f"wört-{row}" for row in range(rows)]


def check(get):
    assert get("vectors").dtype == np.float32
    np.testing.assert_array_equal(get("vectors"), vectors)
    assert [str(one) for one in get("ids")] == ids
    metadata = [json.loads(str(one)) for one in get("metadata")]
    assert metadata == [{"row": row, "text": "ä" * (row % 7)} for row in range(rows)]


def check_attributes(attributes):
    assert attributes == {
        "collection": "My.Docs ä",
        "distance_metric": "cosine",
        "dimension": dimensions,
        "rows": rows,
    }, attributes


group = zarr.open_group(folder, mode="r")
check_attributes(dict(group.attrs))
assert sorted(group.array_keys()) == ["ids", "metadata", "vectors"]
assert group["vectors"].metadata.dimension_names == ("row", "dimension")
assert group["ids"].metadata.dimension_names == ("row",)
check(lambda name: group[name][:])

with xarray.open_zarr(folder, chunks=None) as dataset:
    assert dict(dataset.sizes) == {"row": rows, "dimension": dimensions}
    check_attributes(dict(dataset.attrs))
    check(lambda name: dataset[name].values)

print(rows, "rows")

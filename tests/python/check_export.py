"""Opens an exported group with xarray and compares it with its collection.

usage: check_export.py SOCKET_FOLDER GROUP COLLECTION

Prints the number of rows.
"""

import json
import sys

import numpy as np
import psycopg
import warnings
import xarray
from zarr.errors import UnstableSpecificationWarning


def main():
    socket, group, collection = sys.argv[1:]
    with warnings.catch_warnings():
        # Strings have no final specification in Zarr v3; zarr-python says so each time.
        warnings.simplefilter("ignore", UnstableSpecificationWarning)
        data = xarray.open_zarr(group, consolidated=False).load()
    assert data["vectors"].dims == ("row", "dimension"), data["vectors"].dims
    assert data["vectors"].dtype == np.float32, data["vectors"].dtype
    assert data["ids"].dims == data["metadata"].dims == ("row",), data
    assert data.attrs["collection"] == collection, data.attrs
    with psycopg.connect(host=socket, user="postgres", dbname="postgres") as connection:
        rows = connection.execute(f'SELECT id, embedding::text, metadata FROM "{collection}"').fetchall()
    ids = [str(identifier) for identifier in data["ids"].values]
    places = {identifier: at for at, identifier in enumerate(ids)}
    assert len(places) == len(ids) == len(rows), (len(places), len(ids), len(rows))
    for identifier, text, metadata in rows:
        at = places[identifier]
        found = np.array(text.strip("[]").split(","), dtype=np.float32)
        assert np.array_equal(found, data["vectors"].values[at]), f"vector of {identifier}"
        assert json.loads(str(data["metadata"].values[at])) == metadata, f"metadata of {identifier}"
    print(len(rows))


main()

"""Changes an array of a segment so that its checksums are right: edit_array.py FOLDER ARRAY STATEMENTS

STATEMENTS see the array's content as `a`.
"""

import sys

import numpy as np
import zarr

folder, name, statements = sys.argv[1:]
array = zarr.open_group(folder, mode="r+")[name]
a = array[:]
exec(statements, {"a": a, "np": np})
array[:] = a

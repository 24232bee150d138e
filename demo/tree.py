"""Shows what an index left in its store: Zarr groups, their arrays, objects and sizes."""

import json

import report


def show(store):
    """Prints the store as a tree, one line an array. Returns the bytes of all objects."""
    objects = store.objects()
    if not objects:
        raise ValueError(f"{store.name} holds no objects")
    report.line(report.bold(store.name))
    # A Zarr node is wherever a zarr.json lies; arrays say so in it.
    nodes = {name.removesuffix("zarr.json").rstrip("/") for name in objects if name.endswith("zarr.json")}
    metadata = {node: json.loads(store.read(f"{node}/zarr.json".lstrip("/"))) for node in sorted(nodes)}
    for node, document in metadata.items():
        if document["node_type"] == "group":
            _show_group(node, metadata, objects)
    total = sum(objects.values())
    report.line(f"{report.count(len(objects), 'object')}, {report.size(total)}")
    return total


def _show_group(group, metadata, objects):
    arrays = [
        (node.rpartition("/")[2], node, document)
        for node, document in metadata.items()
        if document["node_type"] == "array" and node.rpartition("/")[0] == group
    ]
    if not arrays:
        return
    for depth, part in enumerate(group.split("/")):
        report.line(f"{'   ' * depth}└─ {part}/")
    indent = "   " * len(group.split("/"))
    arrays.sort(key=lambda array: -_bytes(array[1], objects)[1])
    for position, (name, node, document) in enumerate(arrays):
        branch = "└─" if position == len(arrays) - 1 else "├─"
        shape = " × ".join(str(extent) for extent in document["shape"])
        count, stored = _bytes(node, objects)
        report.line(
            f"{indent}{branch} {report.cyan(f'{name:<18}')} {document['data_type']:<8} {shape:>13}"
            f"  {report.size(stored):>8} in {report.count(count, 'object')}"
        )


def _bytes(node, objects):
    """How many objects hold an array's elements, and their bytes."""
    sizes = [
        stored for name, stored in objects.items()
        if name.startswith(f"{node}/") and not name.endswith("zarr.json")
    ]
    return len(sizes), sum(sizes)

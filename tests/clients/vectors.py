"""Vectors for the clients' tests, and the truth about their neighbours."""

import numpy as np

# Enough rows that the planner prefers an index by itself.
ROWS = 3000
DIMENSIONS = 48
TOP = 10
QUERIES = 20
RECALL_FLOOR = 0.95

# The operator class of each metric, its operator, and its distance of rows from a query.
METRICS = {
    "vector_l2_ops": ("<->", lambda rows, query: np.linalg.norm(rows - query, axis=1)),
    "vector_ip_ops": ("<#>", lambda rows, query: -(rows @ query)),
    "vector_cosine_ops": (
        "<=>",
        lambda rows, query: 1 - (rows @ query) / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query)),
    ),
}


def clustered(seed, count):
    """float32 [count, DIMENSIONS]: around 32 centres, like embeddings, of lengths near 1."""
    rng = np.random.default_rng(seed)
    # The same centres and directions whatever the seed: queries lie among the rows.
    shape = np.random.default_rng(0)
    centres = shape.normal(size=(32, DIMENSIONS))
    directions = shape.normal(size=(12, DIMENSIONS))
    vectors = (
        centres[rng.integers(32, size=count)]
        + rng.normal(size=(count, 12)) @ directions / 4
        + rng.normal(size=(count, DIMENSIONS)) / 20
    )
    return (vectors / np.sqrt(DIMENSIONS)).astype(np.float32)


def check_answers(opclass, rows, query, found):
    """Compares one answer with the exact one. Returns its recall.

    `rows` is id → vector; `found` is the answer's ids and distances, in its order.
    """
    ids = list(rows)
    exact = METRICS[opclass][1](np.stack([rows[id] for id in ids]).astype(np.float64), query.astype(np.float64))
    exact = dict(zip(ids, exact))
    assert len(found) == TOP and len({id for id, _ in found}) == TOP, found
    for id, distance in found:
        assert abs(distance - exact[id]) < 1e-5, f"row {id}: {distance}, exactly {exact[id]}"
    distances = [distance for _, distance in found]
    assert distances == sorted(distances), distances
    limit = sorted(exact.values())[TOP - 1] + 1e-6
    return sum(exact[id] <= limit for id, _ in found) / TOP


def check_recall(recalls):
    """Asserts the mean recall of several answers."""
    assert np.mean(recalls) >= RECALL_FLOOR, recalls


def check_plan(plan, index):
    """Asserts that a plan, the lines of EXPLAIN, reads an index and sorts nothing."""
    text = "\n".join(plan)
    assert f"Index Scan using {index} on" in text and "Sort" not in text, text

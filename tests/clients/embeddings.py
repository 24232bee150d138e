"""The examples' model gives the embeddings of demo/data: it is the one that made them.

usage: embeddings.py EXAMPLES_FOLDER
"""

import sys

sys.path.insert(0, sys.argv[1])

import embedding
import numpy as np
import sample

ROWS = 200


def main():
    model = embedding.Model()
    entries, vectors = sample.read()
    # The longest texts, and some of every length.
    texts = [f"{', '.join(entry['words'])}: {entry['gloss']}" for entry in entries]
    rows = sorted(range(len(texts)), key=lambda row: -len(texts[row]))[:20] + list(range(ROWS))
    embedded = model.embed([texts[row] for row in rows])
    assert embedded.dtype == np.float32 and embedded.shape == (len(rows), embedding.DIMENSIONS)
    stored = vectors[rows] / np.linalg.norm(vectors[rows], axis=1, keepdims=True)
    similarity = (embedded * stored).sum(axis=1)
    # The definitions are stored in half precision.
    assert similarity.min() > 0.9999, similarity.min()

    questions = (sample.FOLDER / "questions.txt").read_text().splitlines()
    stored = np.load(sample.FOLDER / "embeddings.npz")["questions"]
    assert np.abs(model.embed(questions) - stored).max() < 1e-5
    # One by one they are the same as together.
    assert np.abs(model.embed(questions[:1]) - stored[:1]).max() < 1e-5


if __name__ == "__main__":
    main()

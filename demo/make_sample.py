"""Makes the files of demo/data from the full set of embedded WordNet definitions.

The sample holds the definitions nearest to each question, so that the questions have good answers,
and fills up with others picked by the hash of their text: the same inputs give the same sample on
any machine.

usage: make_sample.py --embeddings BASE.npy --definitions BASE.tsv.gz
                      --question-embeddings Q.npy --questions Q.txt [--rows 10000] [--out demo/data]

BASE.npy        float16 [N, 384], one L2-normalised embedding a definition
BASE.tsv.gz     N lines: words, part of speech, definition
Q.npy, Q.txt    float32 [M, 384] and M lines: questions in plain English
"""

import argparse
import gzip
import hashlib
from pathlib import Path

import numpy as np

# Definitions kept for every question. Ten would be enough to answer; fifty leave near misses.
NEAREST = 50


def choose(embeddings, lines, questions, rows):
    """Row numbers of the sample, ascending: the order of the full set, which is random."""
    similarity = questions @ embeddings.astype(np.float32).T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEAREST]
    chosen = set(nearest.ravel().tolist())
    by_hash = sorted(range(len(lines)), key=lambda row: hashlib.sha256(lines[row].encode()).digest())
    for row in by_hash:
        if len(chosen) >= rows:
            break
        chosen.add(row)
    return np.array(sorted(chosen))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--embeddings", required=True)
    parser.add_argument("--definitions", required=True)
    parser.add_argument("--question-embeddings", required=True)
    parser.add_argument("--questions", required=True)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    options = parser.parse_args()

    embeddings = np.load(options.embeddings)
    question_embeddings = np.load(options.question_embeddings)
    questions = Path(options.questions).read_text().splitlines()
    with gzip.open(options.definitions, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    if len(lines) != len(embeddings) or len(questions) != len(question_embeddings):
        raise SystemExit(
            f"{len(lines)} definitions for {len(embeddings)} embeddings, "
            f"{len(questions)} questions for {len(question_embeddings)} embeddings"
        )

    rows = choose(embeddings, lines, question_embeddings, options.rows)
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out / "embeddings.npz",
        definitions=embeddings[rows],
        questions=question_embeddings.astype(np.float32),
    )
    text = "".join(lines[row] + "\n" for row in rows)
    # No time stamp inside, so that the same sample is the same file.
    (options.out / "definitions.tsv.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    (options.out / "questions.txt").write_text("".join(question + "\n" for question in questions))
    for path in sorted(options.out.iterdir()):
        print(f"{path.stat().st_size:>10,}  {path.name}")


if __name__ == "__main__":
    main()

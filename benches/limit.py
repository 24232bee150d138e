"""faiss, a library in the measuring process: what a graph search costs without a database around it."""

import time

import faiss

import common
from systems import BEAMS

THREADS = 2


class Faiss:
    """faiss's HNSW over vectors of 8 bits a dimension. Has the methods of measure.Indexed that apply."""

    name = "faiss"

    def __init__(self, dataset):
        self.dataset = dataset
        self.base = common.normalised(dataset.base)
        self.queries = common.normalised(dataset.queries)
        self.beams = {f"ef {beam}": beam for beam in BEAMS}
        self.settings = list(self.beams)
        self.index = None

    def build(self):
        """Rows a second, by two threads."""
        faiss.omp_set_num_threads(THREADS)
        begin = time.perf_counter()
        # Of vectors of length 1 the nearest are those of the smallest angle.
        index = faiss.IndexHNSWSQ(self.base.shape[1], faiss.ScalarQuantizer.QT_8bit, 16)
        index.hnsw.efConstruction = 64
        index.train(self.base)
        index.add(self.base)
        elapsed = time.perf_counter() - begin
        self.index = index
        faiss.omp_set_num_threads(1)
        return len(self.base) / elapsed

    def recall(self, setting):
        self.index.hnsw.efSearch = self.beams[setting]
        return common.share_found(self.index.search(self.queries, 10)[1].tolist(), self.dataset.truth)

    def rate(self, setting, seconds):
        """Queries a second, one at a time by one thread."""
        self.index.hnsw.efSearch = self.beams[setting]
        queries = [query[None] for query in self.queries]
        count, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < seconds:
            for query in queries[:100]:
                self.index.search(query, 10)
            queries = queries[100:] + queries[:100]
            count += 100
        return count / elapsed

"""Answers questions with a LangChain retriever over an s3vector collection.

usage: ask.py --database CONNINFO [--part noun|verb|adj|adv] [QUESTION…]

Adds the definitions of demo/data, whose embeddings are there, and a few documents that are embedded
here; then retrieves what is nearest to each question. `make retriever` runs it on a database of its
own.
"""

import argparse
import sys
from contextlib import closing
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

sys.path.insert(0, str(Path(__file__).parent.parent))

import embedding
import sample
from store import S3VectorStore

NOTES = [
    Document(id=id, page_content=text, metadata={"about": "s3vector"})
    for id, text in {
        "note build": "CREATE INDEX writes the vectors to object storage as immutable Zarr arrays.",
        "note search": "A search walks a graph in memory, then fetches the few vectors that can still change the answer.",
        "note loss": "When the bucket is lost, REINDEX makes everything in it again from the table.",
    }.items()
]
QUESTIONS = (
    "the fear of open spaces",
    "how do I recover after somebody deleted my bucket?",
    "to divide into two halves",
)


class MiniLM(Embeddings):
    """The examples' model as LangChain sees one."""

    def __init__(self):
        self._model = embedding.Model()

    def embed_documents(self, texts):
        return self._model.embed(texts).tolist()

    def embed_query(self, text):
        return self.embed_documents([text])[0]


def add_definitions(store, batch=1000):
    """Adds the sample of demo/data; the ids make that harmless when it has been added before."""
    entries, vectors = sample.read()
    for start in range(0, len(entries), batch):
        some = entries[start : start + batch]
        store.add_embeddings(
            [f"{', '.join(entry['words'])}: {entry['gloss']}" for entry in some],
            vectors[start : start + batch],
            [{"part": entry["part"]} for entry in some],
            ids=[f"definition {row}" for row in range(start, start + len(some))],
        )
    return len(entries)


def show(answer):
    lines = [f"? {answer['question']}"]
    lines += [f"  - {document.page_content}" for document in answer["documents"]]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--database", required=True)
    parser.add_argument("--part", choices=("noun", "verb", "adj", "adv"))
    parser.add_argument("questions", nargs="*", metavar="QUESTION")
    options = parser.parse_args()

    with closing(S3VectorStore(options.database, "knowledge", MiniLM())) as store:
        added = add_definitions(store) + len(store.add_documents(NOTES))
        print(f"{added:,} documents added")

        filters = {"part": options.part} if options.part else {}
        retriever = store.as_retriever(search_kwargs={"k": 3, "filter": filters})
        # Where a language model would go, this prints what it would be given.
        chain = {"question": RunnablePassthrough(), "documents": retriever} | RunnableLambda(show)
        for question in options.questions or QUESTIONS:
            print(chain.invoke(question))


if __name__ == "__main__":
    main()

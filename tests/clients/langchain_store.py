"""LangChain's operations on the retriever example's store.

usage: langchain_store.py CONNINFO RETRIEVER_FOLDER
"""

import asyncio
import sys
from contextlib import closing

sys.path.insert(0, sys.argv[2])

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from store import S3VectorStore

EMBEDDING = DeterministicFakeEmbedding(size=384)


def similarity(a, b):
    a, b = (np.array(EMBEDDING.embed_query(text)) for text in (a, b))
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def check(store):
    texts = [f"text {number}" for number in range(30)]
    ids = store.add_texts(texts[:20], [{"even": number % 2 == 0} for number in range(20)])
    assert len(set(ids)) == 20
    documents = [
        Document(id=f"id {text}" if number % 2 else None, page_content=text) for number, text in enumerate(texts[20:])
    ]
    more = store.add_documents(documents)
    assert more[1::2] == [document.id for document in documents[1::2]] and all(more), more

    # A text is nearest to itself; scores are cosine similarities, in order.
    found = store.similarity_search_with_score("text 7", k=30)
    assert found[0][0] == Document(id=ids[7], page_content="text 7", metadata={"even": False}), found[0]
    assert {document.page_content for document, _ in found} == set(texts)
    for document, score in found:
        assert abs(score - similarity("text 7", document.page_content)) < 1e-5, (document, score)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert store.similarity_search_by_vector(EMBEDDING.embed_query("text 3"), k=1)[0].page_content == "text 3"
    (_, relevance), = store.similarity_search_with_relevance_scores("text 3", k=1)
    assert abs(relevance - 1) < 1e-5

    # A retriever, alone and asynchronous, with a filter and without.
    retriever = store.as_retriever(search_kwargs={"k": 5, "filter": {"even": True}})
    answer = retriever.invoke("text 7")
    assert len(answer) == 5 and all(document.metadata == {"even": True} for document in answer), answer
    answer = asyncio.run(store.as_retriever(search_kwargs={"k": 2}).ainvoke("text 12"))
    assert answer[0].page_content == "text 12" and len(answer) == 2, answer

    # An id that comes again replaces; ids that are not there are left out.
    store.add_texts(["another text"], ids=[ids[0]])
    got = store.get_by_ids([ids[0], "never there", ids[1]])
    assert [document.page_content for document in got] == ["another text", "text 1"], got
    try:
        store.add_texts(["text"], [{"text": "mine"}])
    except ValueError:
        pass
    else:
        raise AssertionError("metadata took the place of the text")
    assert store.delete(ids[:2]) and not store.delete(ids[:2])
    assert len(store.similarity_search("text", k=100)) == 28
    assert store.delete() and store.similarity_search("text") == []


def main():
    with closing(S3VectorStore(sys.argv[1], "fakes", EMBEDDING)) as store:
        check(store)
    place = {"conninfo": sys.argv[1], "collection": "fakes"}
    with closing(S3VectorStore.from_texts(["one", "two"], EMBEDDING, ids=["1", "2"], **place)) as store:
        assert [document.id for document in store.similarity_search("two")] == ["2", "1"]


if __name__ == "__main__":
    main()

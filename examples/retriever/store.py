"""LangChain's vector store and retriever over an s3vector collection.

`S3VectorStore` is a `VectorStore`; `S3VectorStore.as_retriever(search_kwargs={"k": 3, "filter": {…}})`
makes a retriever of it, for chains. The filter is s3vector's own language.
"""

from uuid import uuid4

import psycopg
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

# The key of the metadata under which a document's text is kept.
TEXT = "text"


class S3VectorStore(VectorStore):
    """Documents in a collection, found by an embedding of their text.

    `embedding` is a LangChain `Embeddings`, `conninfo` a connection string of PostgreSQL. The collection
    is created when there is none.
    """

    def __init__(self, conninfo, collection, embedding, dimension=384):
        self._collection = collection
        self._embedding = embedding
        self._connection = psycopg.connect(conninfo, autocommit=True)
        self._connection.execute("CREATE EXTENSION IF NOT EXISTS s3vector CASCADE")
        register_vector(self._connection)
        names = self._connection.execute("SELECT name FROM s3vector.list_collections()").fetchall()
        if (collection,) not in names:
            self._connection.execute("SELECT s3vector.create_collection(%s, %s)", (collection, dimension))

    def close(self):
        """Ends the connection."""
        self._connection.close()

    @property
    def embeddings(self):
        return self._embedding

    def add_texts(self, texts, metadatas=None, *, ids=None, **kwargs):
        texts = list(texts)
        return self.add_embeddings(texts, self._embedding.embed_documents(texts), metadatas, ids=ids)

    def add_embeddings(self, texts, embeddings, metadatas=None, *, ids=None):
        """Adds texts whose embeddings are known. An id that is there already is replaced. Returns the ids."""
        metadatas = metadatas or [{}] * len(texts)
        if any(TEXT in metadata for metadata in metadatas):
            raise ValueError(f"the metadata's '{TEXT}' is the document itself")
        # LangChain passes None for a document that has no id.
        ids = [id or str(uuid4()) for id in ids or [None] * len(texts)]
        # %b: vectors travel in binary.
        return self._connection.execute(
            "SELECT s3vector.add_vectors(%s, %b, %s, %s, update => true)",
            (self._collection, [Vector(embedding) for embedding in embeddings],
             [Jsonb({**metadata, TEXT: text}) for text, metadata in zip(texts, metadatas, strict=True)], ids),
        ).fetchone()[0]

    def delete(self, ids=None, **kwargs):
        """Removes documents; without ids, all. Returns whether there were any."""
        removed, = self._connection.execute(
            "SELECT s3vector.remove_vectors(%s, ids => %s, filters => %s)",
            (self._collection, ids, Jsonb({}) if ids is None else None),
        ).fetchone()
        return removed > 0

    def get_by_ids(self, ids, /):
        rows = self._connection.execute(
            "SELECT got.id, metadata FROM unnest(%s::text[]) AS wanted, s3vector.get_vector(%s, wanted) AS got",
            (list(ids), self._collection),
        )
        return [_document(*row) for row in rows]

    def similarity_search(self, query, k=4, filter=None, **kwargs):
        return [document for document, _ in self.similarity_search_with_score(query, k, filter)]

    def similarity_search_by_vector(self, embedding, k=4, filter=None, **kwargs):
        return [document for document, _ in self._search(embedding, k, filter)]

    def similarity_search_with_score(self, query, k=4, filter=None, **kwargs):
        """Documents and their cosine similarity, the greatest first."""
        return self._search(self._embedding.embed_query(query), k, filter)

    def _search(self, embedding, k, filter):
        rows = self._connection.execute(
            'SELECT id, metadata, score FROM s3vector.search_vectors(%s, %s, %s, "limit" => %s)',
            (self._collection, Vector(embedding), Jsonb(filter or {}), k),
        )
        return [(_document(id, metadata), score) for id, metadata, score in rows]

    def _select_relevance_score_fn(self):
        # LangChain wants 0..1; opposite meanings are as good as unrelated ones.
        return lambda similarity: min(max(similarity, 0.0), 1.0)

    @classmethod
    def from_texts(cls, texts, embedding, metadatas=None, *, ids=None, conninfo, collection, **kwargs):
        store = cls(conninfo, collection, embedding)
        store.add_texts(texts, metadatas, ids=ids)
        return store


def _document(id, metadata):
    return Document(id=id, page_content=metadata.pop(TEXT), metadata=metadata)

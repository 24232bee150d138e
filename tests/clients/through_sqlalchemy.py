"""pgvector's own package with SQLAlchemy, unmodified: a model whose index is an s3vector one.

usage: through_sqlalchemy.py CONNINFO
"""

import sys

import numpy as np
from pgvector.sqlalchemy import VECTOR
from psycopg import connect
from sqlalchemy import BigInteger, Index, create_engine, delete, inspect, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import vectors
from vectors import DIMENSIONS, QUERIES, ROWS, TOP, clustered


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    label: Mapped[str]
    embedding = mapped_column(VECTOR(DIMENSIONS))


# The comparator's method of each operator class.
METHODS = {
    "vector_l2_ops": Item.embedding.l2_distance,
    "vector_ip_ops": Item.embedding.max_inner_product,
    "vector_cosine_ops": Item.embedding.cosine_distance,
}


def check(engine, opclass, rows):
    recalls = []
    with Session(engine) as session:
        for query in clustered(2, QUERIES):
            distance = METHODS[opclass](query)
            statement = select(Item, distance).order_by(distance).limit(TOP)
            literal = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
            plan = session.connection().exec_driver_sql(f"EXPLAIN {literal}").scalars()
            vectors.check_plan(plan, "items_nearest")
            answer = session.execute(statement).all()
            for item, _ in answer:
                assert item.label == f"item {item.id}", item.label
                assert np.array_equal(np.asarray(item.embedding, np.float32), rows[item.id]), f"row {item.id} differs"
            found = [(item.id, distance) for item, distance in answer]
            recalls.append(vectors.check_answers(opclass, rows, query, found))
    vectors.check_recall(recalls)


def journey(engine, opclass):
    rows = dict(enumerate(clustered(1, ROWS)))
    index = Index(
        "items_nearest",
        Item.embedding,
        postgresql_using="s3vector",
        postgresql_with={"m": 16, "bits": "8"},
        postgresql_ops={"embedding": opclass},
    )
    Base.metadata.create_all(engine)
    reflected, = inspect(engine).get_indexes("items")
    assert reflected["name"] == "items_nearest", reflected
    assert reflected["dialect_options"]["postgresql_using"] == "s3vector", reflected
    assert reflected["dialect_options"]["postgresql_with"] == {"m": "16", "bits": "8"}, reflected

    with Session(engine) as session:
        session.add_all(Item(id=id, label=f"item {id}", embedding=vector) for id, vector in rows.items())
        session.commit()
        session.execute(text("ANALYZE items"))
        session.commit()
    check(engine, opclass, rows)

    with Session(engine) as session:
        for id, vector in enumerate(clustered(4, 100)):
            rows[id] = vector
            session.execute(update(Item).where(Item.id == id).values(embedding=vector))
        session.get(Item, 150).embedding = rows[150] = clustered(5, 1)[0]
        session.execute(delete(Item).where(Item.id.between(200, 299)))
        for id in range(200, 300):
            del rows[id]
        session.commit()
    check(engine, opclass, rows)

    index.drop(engine)
    assert inspect(engine).get_indexes("items") == []
    Base.metadata.drop_all(engine)
    Item.__table__.indexes.discard(index)


def main():
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(sys.argv[1]))
    for opclass in METHODS:
        journey(engine, opclass)
    engine.dispose()


if __name__ == "__main__":
    main()

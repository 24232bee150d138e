//! `search_vectors` and `search_vectors_page`: the nearest vectors that pass a filter.
//!
//! A search is one statement, `… WHERE metadata @? filter ORDER BY embedding <=> query LIMIT n`, kept
//! prepared by its shape, so that it costs little more than the same statement sent by a client.

use distance::Metric;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::call::{Call, sql_function};
use super::filters;
use super::order::Order;
use super::query::{self, Access, Param, Plan, Planning};
use super::table::{Collection, find};
use crate::errors::raise;
use crate::index::vector::Vector;

/// The number 1, whatever is in search_path.
const ONE: &str = "'1'::pg_catalog.float8";

/// Rows a search returns when nobody says.
const DEFAULT_LIMIT: i64 = 10;

/// What the text of a search's statement, and the choice of its plan, depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    by_vector: bool,
    filtered: bool,
    limit: i64,
    offset: i64,
    include_vectors: bool,
    order: Option<Order>,
    planner: Planner,
}

/// What a plan hangs on that does not make PostgreSQL plan anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Planner {
    /// The table's size, as a power of two.
    size: u32,
    /// Which ways of reading a table the session allows.
    enabled: [bool; 4],
}

impl Planner {
    fn now(collection: &Collection) -> Self {
        // SAFETY: reads settings, and the size of a table that is locked for it.
        unsafe {
            let lock = pg_sys::AccessShareLock as i32;
            let relation = pg_sys::try_relation_open(collection.table, lock);
            let blocks = relation.as_ref().map_or(0, |_| {
                let blocks = pg_sys::RelationGetNumberOfBlocksInFork(
                    relation,
                    pg_sys::ForkNumber::MAIN_FORKNUM,
                );
                pg_sys::relation_close(relation, lock);
                blocks
            });
            Self {
                size: u32::BITS - blocks.leading_zeros(),
                enabled: [
                    pg_sys::enable_indexscan,
                    pg_sys::enable_bitmapscan,
                    pg_sys::enable_seqscan,
                    pg_sys::enable_sort,
                ],
            }
        }
    }
}

/// A search: its collection, its statement's shape and parameters.
struct Search {
    collection: std::rc::Rc<Collection>,
    shape: Shape,
    params: Vec<Param>,
}

sql_function!(
    /// `s3vector.search_vectors(collection, query_vector, filters, limit, offset, include_vectors, order_by)`.
    s3vector_search_vectors, pg_finfo_s3vector_search_vectors, |call| {
        let search = Search::of(call);
        let planning = if search.shape.filtered { Planning::EachTime } else { Planning::Once };
        let prepare = || {
            let types: Vec<_> = search.params.iter().map(|param| param.oid).collect();
            Plan::prepare(&search.sql(), &types, planning)
        };
        search.collection.plan(&search.shape, prepare).answer(call, &search.params);
        None
    }
);

sql_function!(
    /// `s3vector.search_vectors_page(…)`: the same as one JSON object, with the number of all matches.
    s3vector_search_vectors_page, pg_finfo_s3vector_search_vectors_page, |call| {
        let search = Search::of(call);
        query::fetch_value(&search.page_sql(), &search.params, Access::Read)
    }
);

impl Search {
    fn of(call: Call) -> Self {
        let collection = find(&call.require::<String>(0, "collection"));
        let vector = call.datum(1);
        if let Some(datum) = vector {
            // SAFETY: the argument is declared as a vector.
            let vector = unsafe { Vector::new(datum) };
            collection.check_vector("the query vector", vector.as_slice());
        }
        let filter = filters::argument(call, 2);
        let shape = Shape {
            by_vector: vector.is_some(),
            filtered: filter.is_some(),
            limit: not_negative(call, 3, "limit").unwrap_or(DEFAULT_LIMIT),
            offset: not_negative(call, 4, "offset").unwrap_or(0),
            include_vectors: call.get(5).unwrap_or(false),
            order: call.get::<String>(6).map(|text| Order::parse(&text)),
            planner: Planner::now(&collection),
        };
        let mut params = Vec::with_capacity(3);
        if let Some(datum) = vector {
            params.push(Param::of(collection.vector_type, Some(datum)));
        }
        params.extend(filter);
        if let Some(path) = shape.order.as_ref().and_then(Order::path) {
            params.push(Param::new(path.to_vec()));
        }
        Self { collection, shape, params }
    }

    /// Numbers of the parameters for the filter and for the path to order by.
    fn places(&self) -> (usize, usize) {
        let filter = 1 + usize::from(self.shape.by_vector);
        (filter, filter + usize::from(self.shape.filtered))
    }

    /// `WHERE …`, or nothing.
    fn condition(&self) -> String {
        if self.shape.filtered { filters::condition("t", self.places().0) } else { String::new() }
    }

    /// The statement: columns `id`, `score`, `metadata`, `vector`.
    fn sql(&self) -> String {
        let Self { collection, shape, .. } = self;
        let vector = if shape.include_vectors {
            "t.embedding".to_owned()
        } else {
            format!("NULL::{}", collection.vector_type_name)
        };
        let (table, condition) = (&collection.qualified, self.condition());
        let page = format!("LIMIT {} OFFSET {}", shape.limit, shape.offset);
        let order = shape.order.as_ref().map(|order| order.clause(self.places().1));
        if !shape.by_vector {
            let order = order.unwrap_or_else(|| "ORDER BY id".into());
            return format!(
                "SELECT id, score, metadata, vector FROM (SELECT t.id, {ONE} AS score, \
                 t.metadata, {vector} AS vector, t.created_at FROM {table} t {condition}) AS found \
                 {order} {page}"
            );
        }
        let distance = format!("t.embedding {} $1", collection.operator);
        let score = match collection.metric {
            Metric::Cosine => format!("{ONE} OPERATOR(pg_catalog.-) ({distance})"),
            Metric::InnerProduct => format!("OPERATOR(pg_catalog.-) ({distance})"),
            Metric::L2 => {
                format!("{ONE} OPERATOR(pg_catalog./) ({ONE} OPERATOR(pg_catalog.+) ({distance}))")
            }
        };
        let columns = format!("t.id, {score} AS score, t.metadata, {vector} AS vector");
        match order {
            None => {
                format!(
                    "SELECT {columns} FROM {table} t {condition} ORDER BY {distance}, t.id {page}"
                )
            }
            // The page is of the nearest rows; the order is that of its rows among themselves.
            Some(order) => format!(
                "SELECT id, score, metadata, vector FROM (SELECT {columns}, t.created_at FROM \
                 {table} t {condition} ORDER BY {distance}, t.id {page}) AS found {order}"
            ),
        }
    }

    /// The statement that makes one JSON object of it.
    fn page_sql(&self) -> String {
        let Shape { limit, offset, include_vectors, .. } = self.shape;
        let vector = if include_vectors { ", 'vector', vector::pg_catalog.float4[]" } else { "" };
        format!(
            "SELECT pg_catalog.jsonb_build_object(
                'items', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                              'id', id, 'score', score, 'metadata', metadata{vector})), '[]')
                          FROM ({}) AS page),
                'total', (SELECT pg_catalog.count(*) FROM {} t {}),
                'offset', {offset}, 'limit', {limit})",
            self.sql(),
            self.collection.qualified,
            self.condition()
        )
    }
}

/// An integer argument that must not be negative.
pub fn not_negative(call: Call, index: usize, what: &str) -> Option<i64> {
    let number = i64::from(call.get::<i32>(index)?);
    if number < 0 {
        raise(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("{what} must not be negative"),
            format!("It is {number}."),
            "",
        );
    }
    Some(number)
}

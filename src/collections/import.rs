//! `import_zarr` and `import_collection`: vectors that somebody else has written become rows.
//!
//! A collection made for them gets its indexes at the end: a graph is built faster than it grows.

use std::rc::Rc;

use exchange::{Batch, OldCollection, Source};
use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, pg_sys};

use super::add::add;
use super::call::sql_function;
use super::create::{self, Draft, New};
use super::input::Input;
use super::pipe::{self, Incoming, Opened};
use super::table::{Collection, find, find_relation};
use crate::errors::raise;

sql_function!(
    /// `s3vector.import_zarr(url, collection, array, ids, metadata, distance_metric)`.
    s3vector_import_zarr, pg_finfo_s3vector_import_zarr, |call| {
        let url = call.require::<String>(0, "url");
        let name = call.require::<String>(1, "collection");
        let array = call.require::<String>(2, "array");
        let (ids, metadata) = (call.get::<String>(3), call.get::<String>(4));
        let metric = call.require::<String>(5, "distance_metric");
        let target = match find_relation(&name) {
            Some(_) => Target::Existing(find(&name)),
            None => Target::Missing,
        };
        let open = async |store: &_| {
            let source =
                Source::open(store, &array, ids.as_deref(), metadata.as_deref()).await?;
            Ok(Opened { dimensions: source.dimensions(), metric: None, batches: source.batches() })
        };
        let mut load = Load::new(&name, &metric, target);
        pipe::import(&url, open, |incoming| load.take(incoming));
        load.finish().into_datum()
    }
);

sql_function!(
    /// `s3vector.import_collection(url, name)`.
    s3vector_import_collection, pg_finfo_s3vector_import_collection, |call| {
        let url = call.require::<String>(0, "url");
        let name = call.require::<String>(1, "name");
        let open = async |store: &_| {
            let old = OldCollection::open(store).await?;
            let metric = Some(old.metric().to_owned()).filter(|metric| !metric.is_empty());
            Ok(Opened { dimensions: old.dimensions(), metric, batches: old.batches() })
        };
        let mut load = Load::new(&name, "cosine", Target::Missing);
        pipe::import(&url, open, |incoming| load.take(incoming));
        load.finish().into_datum()
    }
);

/// Where rows go.
enum Target {
    /// A collection that was there.
    Existing(Rc<Collection>),
    /// One that is to be created.
    Missing,
    /// One that has been, without its indexes.
    Draft(Box<Draft>),
}

/// An import on the main thread.
struct Load<'a> {
    name: &'a str,
    metric: &'a str,
    target: Target,
    rows: u64,
    /// Holds what a batch becomes until it is in the table.
    memory: PgMemoryContexts,
}

impl<'a> Load<'a> {
    fn new(name: &'a str, metric: &'a str, target: Target) -> Self {
        let memory = PgMemoryContexts::new("s3vector import");
        Self { name, metric, target, rows: 0, memory }
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Head { dimensions, metric } => self.prepare(dimensions, metric.as_deref()),
            Incoming::Rows(batch) => self.insert(batch),
            Incoming::End { missing_chunks, repeated_ids } => {
                if missing_chunks > 0 {
                    pgrx::warning!(
                        "{missing_chunks} chunks of the array were never written: their elements \
                         are its fill value"
                    );
                }
                if repeated_ids > 0 {
                    pgrx::notice!("{repeated_ids} rows are left out: later ones have their ids");
                }
            }
        }
    }

    fn prepare(&mut self, dimensions: usize, metric: Option<&str>) {
        match &self.target {
            Target::Existing(collection) => collection.check_dimensions("the array", dimensions),
            Target::Missing | Target::Draft(_) => {
                self.target = Target::Draft(Box::new(create::draft(&New {
                    name: self.name,
                    dimensions: dimensions as i32,
                    metric: metric.unwrap_or(self.metric),
                    overwrite: false,
                    config: "{}",
                })));
            }
        }
    }

    fn insert(&mut self, batch: Batch) {
        if let Some((row, element)) = batch.not_finite() {
            raise(
                PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                format!("element {element} of row {row} of the array is not finite"),
                "A vector has finite elements only. Rows and elements are counted from 0.",
                "",
            );
        }
        let collection: &Collection = match &self.target {
            Target::Existing(collection) => collection,
            Target::Draft(draft) => draft.collection(),
            Target::Missing => pgrx::error!("rows have come before their description"),
        };
        self.rows += batch.rows as u64;
        // SAFETY: the context is this import's own, and nothing of a batch is kept.
        unsafe {
            self.memory.switch_to(|_| {
                add(collection, Input::from_batch(batch, collection), false);
            });
            pg_sys::MemoryContextReset(self.memory.value());
        }
    }

    /// Completes what was created; returns how many rows have come.
    fn finish(self) -> i64 {
        if let Target::Draft(draft) = self.target {
            draft.finish();
        }
        self.rows as i64
    }
}

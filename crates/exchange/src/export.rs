//! Writes a collection as a plain Zarr v3 group that any reader opens.
//!
//! ```text
//!   vectors   row × dimension   float32   bytes, zstd
//!   ids       row               string    vlen-utf8, zstd
//!   metadata  row               string    vlen-utf8, zstd: a JSON object each
//!   zarr.json                             collection, distance_metric, dimension, rows;
//!                                         consolidated metadata
//! ```
//!
//! Chunks are written as rows come; how many rows there are is known at the end, so the metadata of
//! the arrays come then and the group's own last: what was broken off does not open. zstd's own
//! checksum is on.

mod layout;

use std::sync::Arc;

use bytes::Bytes;
use storage::Store;
use tokio::task::JoinSet;

use crate::error::{ExchangeError, Result};
use layout::{Column, Layout};

/// Chunks that are encoded and uploaded at once, besides the one that fills.
const CHUNKS_AT_ONCE: u64 = 4;

/// What a group says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Name of the collection.
    pub collection: String,
    /// Name of its metric, as SQL knows it.
    pub distance_metric: String,
    /// Elements of a vector.
    pub dimensions: usize,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Rows.
    pub rows: u64,
    /// Objects, metadata included.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A group that is being written. It opens in a reader once [`finish`](Self::finish) has returned.
#[derive(Debug)]
pub struct Export {
    store: Arc<dyn Store>,
    info: ExportInfo,
    layout: Arc<Layout>,
    vectors: Vec<f32>,
    ids: Vec<String>,
    metadata: Vec<String>,
    /// Chunks of rows that were started.
    chunks: u64,
    running: JoinSet<Result<u64>>,
    started: Vec<String>,
    written: Exported,
}

impl Export {
    /// Begins a group at the top of `store`, where nothing may be yet.
    ///
    /// # Errors
    /// Those of the store; [`ExchangeError::NotEmpty`]; [`ExchangeError::Invalid`] for an
    /// impossible number of dimensions.
    pub async fn create(store: &Arc<dyn Store>, info: ExportInfo) -> Result<Self> {
        let layout = Layout::new(info.dimensions)?;
        // A bucket may hold very many objects; its folders are few.
        let found = match store.folders().await?.into_iter().next() {
            Some(folder) => Some(format!("{folder}/")),
            None => store.list("").await?.into_iter().next().map(|object| object.key),
        };
        if let Some(found) = found {
            return Err(ExchangeError::NotEmpty { place: store.url(), found });
        }
        Ok(Self {
            store: Arc::clone(store),
            info,
            layout: Arc::new(layout),
            vectors: Vec::new(),
            ids: Vec::new(),
            metadata: Vec::new(),
            chunks: 0,
            running: JoinSet::new(),
            started: Vec::new(),
            written: Exported::default(),
        })
    }

    /// Adds rows: `vectors` (rows × dimensions, row-major), an id and a JSON object for each. Waits
    /// while as many chunks as may be are on their way.
    ///
    /// # Errors
    /// Those of the store, also about earlier rows; [`ExchangeError::Invalid`] when the lengths do
    /// not fit each other. Then nothing more can be written.
    pub async fn write(
        &mut self,
        vectors: &[f32],
        ids: Vec<String>,
        metadata: Vec<String>,
    ) -> Result<()> {
        let (rows, elements) = (ids.len(), vectors.len());
        let dimensions = self.info.dimensions;
        if metadata.len() != rows || rows.checked_mul(dimensions) != Some(elements) {
            let objects = metadata.len();
            return Err(ExchangeError::invalid(format!(
                "{elements} elements, {rows} ids and {objects} metadata of vectors with \
                 {dimensions} dimensions"
            )));
        }
        let (mut ids, mut metadata) = (ids.into_iter(), metadata.into_iter());
        let mut vectors = vectors;
        while !vectors.is_empty() {
            let room = self.layout.chunk_rows() - self.ids.len();
            let count = room.min(vectors.len() / dimensions);
            let (now, later) = vectors.split_at(count * dimensions);
            vectors = later;
            self.vectors.extend_from_slice(now);
            self.ids.extend(ids.by_ref().take(count));
            self.metadata.extend(metadata.by_ref().take(count));
            self.written.rows += count as u64;
            if self.ids.len() == self.layout.chunk_rows() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Writes what is left and the metadata.
    ///
    /// # Errors
    /// As [`write`](Self::write); the group then does not open.
    pub async fn finish(mut self) -> Result<Exported> {
        let outcome = self.try_finish().await;
        if outcome.is_err() {
            self.abandon().await;
        }
        outcome
    }

    /// Gives the export up and deletes what it has written, as far as that can be done.
    pub async fn abandon(mut self) {
        self.running.shutdown().await;
        self.store.settle().await;
        // A failure stays silent: why the export is given up is what matters.
        let _ = self.store.delete(&self.started).await;
    }

    async fn try_finish(&mut self) -> Result<Exported> {
        if !self.ids.is_empty() {
            self.flush().await?;
        }
        while !self.running.is_empty() {
            self.finish_one().await?;
        }
        let mut arrays = Vec::with_capacity(Column::ALL.len());
        for column in Column::ALL {
            let body = self.layout.metadata(column, self.written.rows)?;
            arrays.push((column, body.clone()));
            self.put(format!("{}/zarr.json", column.name()), body).await?;
        }
        let body = layout::group(&self.info, self.written.rows, &arrays)?;
        self.put("zarr.json".into(), body).await?;
        Ok(self.written)
    }

    /// Starts to encode and upload the rows that have gathered.
    async fn flush(&mut self) -> Result<()> {
        while self.running.len() as u64 >= CHUNKS_AT_ONCE {
            self.finish_one().await?;
        }
        let chunk = self.chunks;
        self.chunks += 1;
        let keys = Column::ALL.map(|column| column.chunk_key(chunk));
        self.started.extend(keys.iter().cloned());
        let vectors = std::mem::take(&mut self.vectors);
        let (ids, metadata) = (std::mem::take(&mut self.ids), std::mem::take(&mut self.metadata));
        let (store, layout) = (Arc::clone(&self.store), Arc::clone(&self.layout));
        self.running.spawn(async move {
            let encoding = tokio::task::spawn_blocking(move || {
                Ok::<_, ExchangeError>([
                    layout.encode_vectors(vectors)?,
                    layout.encode_texts(ids)?,
                    layout.encode_texts(metadata)?,
                ])
            });
            let bodies = encoding.await.map_err(|_| ExchangeError::Lost)??;
            let mut bytes = 0;
            for (key, body) in keys.iter().zip(bodies) {
                bytes += body.len() as u64;
                store.put(key, Bytes::from(body)).await?;
            }
            Ok(bytes)
        });
        Ok(())
    }

    async fn finish_one(&mut self) -> Result<()> {
        if let Some(finished) = self.running.join_next().await {
            self.written.bytes += finished.map_err(|_| ExchangeError::Lost)??;
            self.written.objects += Column::ALL.len() as u64;
        }
        Ok(())
    }

    async fn put(&mut self, key: String, body: Vec<u8>) -> Result<()> {
        self.started.push(key.clone());
        self.written.bytes += body.len() as u64;
        self.written.objects += 1;
        Ok(self.store.put(&key, Bytes::from(body)).await?)
    }
}

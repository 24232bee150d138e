//! From the store into memory: every array but `vectors`.

use std::ops::Range;

use bytes::Bytes;
use futures::future::join;
use futures::stream::{self, StreamExt};

use crate::arrays::{self, ArraySpec, CHECKSUM_BYTES};
use crate::check;
use crate::error::{Result, SegmentError};
use crate::reader::Reader;
use crate::resident::{self, Resident, ResidentView, Sections};

/// Bytes of one read. Several reads share a chunk, so that a small segment, too, loads side by
/// side.
const PIECE_BYTES: u64 = 4 << 20;

/// A part of one chunk.
pub(crate) struct Piece {
    /// Which array.
    pub(crate) array: usize,
    pub(crate) chunk: u64,
    /// Bytes of the object.
    pub(crate) bytes: Range<u64>,
    /// The checksum is at its end.
    pub(crate) last: bool,
}

impl Reader {
    /// Loads the segment into `region`: [`Resident::size`] bytes or more that begin at a multiple
    /// of [`ALIGNMENT`](crate::ALIGNMENT), in the layout that [`ResidentView`] reads. The segment's prefix
    /// goes with it.
    ///
    /// Reads side by side and checks every checksum, then the graph and the tids against the
    /// attributes. On an error, or when the future is dropped, `region` holds no segment.
    ///
    /// # Errors
    /// Those of the store; [`SegmentError::Corrupt`] naming the object and the bytes;
    /// [`SegmentError::Invalid`] for a region that is too small and for a prefix of more than 80 bytes.
    pub async fn load(&self, region: &mut [u8]) -> Result<()> {
        let attributes = self.attributes();
        let size = Resident::size(attributes);
        if region.len() < size {
            return Err(SegmentError::invalid(format!(
                "a region of {} bytes for a segment of {size}",
                region.len()
            )));
        }
        resident::check_prefix(self.prefix())?;
        resident::clear(region);
        // Indexes that cannot be read now are wanted again, and complained of, with the first vectors.
        let (filled, _) = join(self.fill(region), self.read_indexes()).await;
        filled?;
        resident::seal(region, attributes, self.prefix());
        let outcome = ResidentView::new(region)
            .and_then(|view| self.check(&view))
            .and_then(|()| resident::make_sketches(region));
        if outcome.is_err() {
            resident::clear(region);
        }
        outcome
    }

    /// Reads all arrays into their places.
    async fn fill(&self, region: &mut [u8]) -> Result<()> {
        let attributes = self.attributes();
        let specs = arrays::arrays(attributes);
        let sections = Sections::of(attributes);
        let mut reads = stream::iter(pieces(&specs))
            .map(|piece| self.read_piece(&specs, piece))
            .buffered(self.store().concurrency());
        let mut checksum = 0;
        while let Some((piece, body)) = reads.next().await.transpose()? {
            let spec = &specs[piece.array];
            let body = match piece.last {
                true => self.finish_chunk(spec, piece.chunk, checksum, &body)?,
                false => body,
            };
            checksum = match piece.last {
                true => 0,
                false => crc32c::crc32c_append(checksum, &body),
            };
            // What is padding in the chunk has no place in memory.
            let range = spec.chunk_range(piece.chunk);
            let start = range.start + piece.bytes.start;
            let length = range.end.saturating_sub(start).min(body.len() as u64) as usize;
            let start = start.min(range.end) as usize;
            sections.put(piece.array, start, &body[..length], region).map_err(|error| {
                SegmentError::corrupt(self.key(spec.name), format!("an impossible graph: {error}"))
            })?;
        }
        Ok(())
    }

    async fn read_piece(
        &self,
        specs: &[ArraySpec; arrays::COUNT],
        piece: Piece,
    ) -> Result<(Piece, Bytes)> {
        let key = self.key(&specs[piece.array].chunk_key(piece.chunk));
        let body = self.read(&key, piece.bytes.clone()).await?;
        Ok((piece, body))
    }

    /// The last piece of a chunk without the checksum at its end, which must match.
    pub(crate) fn finish_chunk(
        &self,
        spec: &ArraySpec,
        chunk: u64,
        before: u32,
        body: &Bytes,
    ) -> Result<Bytes> {
        let corrupt = |what: String| {
            let key = self.key(&spec.chunk_key(chunk));
            let end = spec.chunk_bytes();
            SegmentError::corrupt(key, format!("{what} for bytes 0 to {end}"))
        };
        let Some((rest, stored)) = body.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(corrupt("no checksum".into()));
        };
        let (stored, computed) = (u32::from_le_bytes(*stored), crc32c::crc32c_append(before, rest));
        if stored != computed {
            return Err(corrupt(format!("checksum {computed:08x} where {stored:08x} belongs")));
        }
        Ok(body.slice(..rest.len()))
    }

    /// Checks what the checksums cannot: that the arrays fit each other.
    fn check(&self, view: &ResidentView<'_>) -> Result<()> {
        let corrupt = |array: &str, what: String| Err(SegmentError::corrupt(self.key(array), what));
        if let Err(what) = check::tid_offsets(view.tid_offsets(), view.attributes().entries) {
            return corrupt("tid_offsets", what);
        }
        if let Err(error) = hnsw::validate(&view.graph(), view.rows()) {
            return corrupt("neighbors", format!("an impossible graph: {error}"));
        }
        Ok(())
    }
}

/// Every piece of every chunk, in order.
pub(crate) fn pieces(specs: &[ArraySpec]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (array, spec) in specs.iter().enumerate() {
        let end = spec.chunk_bytes();
        for chunk in 0..spec.chunks() {
            let mut start = 0;
            while start < end {
                let stop = (start + PIECE_BYTES).min(end);
                let last = stop == end;
                let checksum = if last { CHECKSUM_BYTES as u64 } else { 0 };
                pieces.push(Piece { array, chunk, bytes: start..stop + checksum, last });
                start = stop;
            }
        }
    }
    pieces
}

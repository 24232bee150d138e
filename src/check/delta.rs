//! What the pages of the delta hold.

use distance::Payload;
use pgrx::pg_sys;

use crate::index::vector;
use crate::pages::delta;
use crate::pages::meta::Parameters;
use crate::pages::page::{BODY, Kind};

/// Takes the pages of a delta, in their order.
pub struct DeltaPages {
    parameters: Parameters,
    entry_bytes: usize,
    /// Of an entry that takes several pages: where it begins, and what has come of it.
    open: Option<(pg_sys::BlockNumber, Vec<u8>)>,
    vector: Vec<f32>,
}

impl DeltaPages {
    /// Before the first page.
    pub fn new(parameters: &Parameters) -> Self {
        Self {
            parameters: *parameters,
            entry_bytes: delta::entry_bytes(parameters.dimensions),
            open: None,
            vector: vec![0.0; parameters.dimensions],
        }
    }

    /// Takes the next page; `tell` is told where something is wrong, and what.
    pub fn visit(
        &mut self,
        block: pg_sys::BlockNumber,
        kind: Kind,
        body: &[u8],
        tell: &mut dyn FnMut(String, String),
    ) {
        let here = format!("block {block}");
        match (kind, self.open.take()) {
            (Kind::Delta, Some(_)) => tell(here, "a row begins before the last one ends".into()),
            (Kind::Delta, None) if self.entry_bytes > BODY => match body.len() {
                0 => {}
                BODY => self.open = Some((block, body.to_vec())),
                other => tell(here, format!("{other} bytes of a row of several pages")),
            },
            (Kind::Delta, None) => {
                let entries = body.chunks_exact(self.entry_bytes);
                if !entries.remainder().is_empty() {
                    tell(here, format!("{} bytes are no whole rows", body.len()));
                }
                for (number, entry) in entries.enumerate() {
                    self.entry(&format!("block {block}, row {number}"), entry, tell);
                }
            }
            (_, None) => tell(here, "the rest of a row that does not begin".into()),
            (_, Some((first, mut entry))) => {
                entry.extend_from_slice(body);
                let full = body.len() == BODY;
                match entry.len() {
                    bytes if bytes == self.entry_bytes => {
                        self.entry(&format!("block {first}"), &entry, tell);
                    }
                    bytes if bytes < self.entry_bytes && full => self.open = Some((first, entry)),
                    bytes => tell(here, format!("{bytes} bytes of a row of {}", self.entry_bytes)),
                }
            }
        }
    }

    /// Takes the end; what is wrong with it.
    pub fn finish(self) -> Option<String> {
        self.open.map(|(block, _)| format!("the row that begins at block {block} does not end"))
    }

    fn entry(&mut self, place: &str, entry: &[u8], tell: &mut dyn FnMut(String, String)) {
        let mut wrong = |what: String| tell(place.to_owned(), what);
        let (tid, bytes) = match delta::parse(entry) {
            Ok((Some(tid), bytes)) => (tid, bytes),
            Ok((None, _)) => return,
            Err(head) => return wrong(format!("{head:#018x} names no row of a table")),
        };
        Payload::Float32.decode(bytes, &mut self.vector);
        if let Some(element) = self.vector.iter().find(|element| !element.is_finite()) {
            wrong(format!("the vector of row {} holds {element}", super::tid_text(tid)));
        } else if !vector::has_entry(&self.vector, &self.parameters).unwrap_or(false) {
            wrong(format!("the vector of row {} cannot be indexed", super::tid_text(tid)));
        }
    }
}

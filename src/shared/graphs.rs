//! This process's mappings of graphs in dynamic shared memory.
//!
//! A mapping is kept for the next query and given up when the registry's slot has got another
//! content. Scans hold theirs by reference count: memory that a running scan reads stays mapped
//! even after the worker has dropped the graph.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::slice;

use pgrx::pg_sys;
use rabitq::{Bits, Quantizer};
use segment::ResidentView;
use uuid::Uuid;

use super::registry::{self, Entry};
use crate::errors::{Failure, FailureKind};

thread_local! {
    // Never dropped: at exit PostgreSQL has detached the memory before this would run.
    static MAPPED: ManuallyDrop<RefCell<HashMap<Uuid, Rc<Graph>>>> = ManuallyDrop::default();
}

/// A segment's graph, codes and tids, mapped into this process.
pub struct Graph {
    dsm: *mut pg_sys::dsm_segment,
    view: ResidentView<'static>,
    quantizer: Quantizer,
    slot: usize,
    generation: u64,
}

impl Graph {
    /// The graph of a segment, loaded and mapped when it is not yet.
    pub fn obtain(index_uuid: Uuid, segment_uuid: Uuid) -> Rc<Self> {
        if let Some(graph) = mapped(segment_uuid) {
            registry::touch(graph.slot);
            return graph;
        }
        drop_stale();
        let graph = Rc::new(Self::map(&registry::obtain(index_uuid, segment_uuid)));
        MAPPED.with(|mapped| mapped.borrow_mut().insert(segment_uuid, Rc::clone(&graph)));
        registry::touch(graph.slot);
        graph
    }

    fn map(entry: &Entry) -> Self {
        // SAFETY: the handle names a pinned segment, or one that has just been dropped, which
        // `dsm_attach` answers with null. The pinned mapping lives until it is detached.
        unsafe {
            let dsm = pg_sys::dsm_attach(entry.handle);
            if dsm.is_null() {
                return Self::map(&registry::obtain(entry.index_uuid, entry.segment_uuid));
            }
            pg_sys::dsm_pin_mapping(dsm);
            let bytes: &'static [u8] = slice::from_raw_parts(
                pg_sys::dsm_segment_address(dsm).cast(),
                entry.bytes as usize,
            );
            match open(bytes) {
                Ok((view, quantizer)) => {
                    Self { dsm, view, quantizer, slot: entry.slot, generation: entry.generation }
                }
                Err(failure) => {
                    pg_sys::dsm_detach(dsm);
                    failure.raise()
                }
            }
        }
    }

    /// The arrays.
    pub fn view(&self) -> &ResidentView<'_> {
        &self.view
    }

    /// The segment's code book, ready to prepare queries.
    pub fn quantizer(&self) -> &Quantizer {
        &self.quantizer
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: attached by `map`; the last reference to the mapping is gone.
        unsafe { pg_sys::dsm_detach(self.dsm) };
    }
}

fn open(bytes: &'static [u8]) -> Result<(ResidentView<'static>, Quantizer), Failure> {
    let corrupt = |error: String| Failure::new(FailureKind::Corrupt, error);
    let view = ResidentView::new(bytes).map_err(|error| corrupt(error.to_string()))?;
    let bits = Bits::from_u8(view.bits() as u8)
        .ok_or_else(|| corrupt(format!("no codes of {} bits exist", view.bits())))?;
    let quantizer = Quantizer::new(
        view.dimensions(),
        bits,
        view.metric(),
        view.rotation_seed(),
        view.centroid().to_vec(),
    );
    Ok((view, quantizer))
}

fn mapped(segment_uuid: Uuid) -> Option<Rc<Graph>> {
    MAPPED.with(|mapped| {
        let mapped = mapped.borrow();
        let graph = mapped.get(&segment_uuid)?;
        registry::is_current(graph.slot, graph.generation).then(|| Rc::clone(graph))
    })
}

/// Gives up mappings of graphs the worker has dropped since.
fn drop_stale() {
    MAPPED.with(|mapped| {
        mapped.borrow_mut().retain(|_, graph| registry::is_current(graph.slot, graph.generation));
    });
}

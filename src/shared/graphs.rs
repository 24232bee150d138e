//! This process's mappings of graphs in dynamic shared memory.
//!
//! A mapping is kept for the next query and given up when the registry's slot has got another
//! content. Scans hold theirs by reference count: memory that a running scan reads stays mapped
//! even after the worker has dropped the graph.
//!
//! The memory itself tells whose graph it holds. Nothing is searched that does not tell what was asked for.

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

/// How often a graph is loaded before it is an error that shared memory holds something else.
const ATTEMPTS: usize = 3;

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
        let graph = Rc::new(Self::load(index_uuid, segment_uuid));
        MAPPED.with(|mapped| mapped.borrow_mut().insert(segment_uuid, Rc::clone(&graph)));
        graph
    }

    /// Has a graph loaded and maps it. Memory with anything else in it is not used, and the graph
    /// loaded anew.
    fn load(index_uuid: Uuid, segment_uuid: Uuid) -> Self {
        let mut failure = Failure::default();
        for _ in 0..ATTEMPTS {
            let pinned = registry::obtain(index_uuid, segment_uuid);
            match Self::map(pinned.entry()) {
                Ok(graph) => {
                    registry::touch(graph.slot);
                    return graph;
                }
                Err(error) => failure = error,
            }
            pinned.discard();
        }
        failure.raise()
    }

    /// Maps the graph that an entry of the registry names; the entry is pinned.
    ///
    /// # Errors
    /// Memory that does not hold this graph.
    fn map(entry: &Entry) -> Result<Self, Failure> {
        // SAFETY: the handle names a segment that stays as long as the entry is pinned. PostgreSQL
        // refuses to attach one twice, so that is asked first. The mapping lives until it is detached,
        // which is when the last reference to the graph goes.
        unsafe {
            let dsm = match pg_sys::dsm_find_mapping(entry.handle).is_null() {
                true => pg_sys::dsm_attach(entry.handle),
                false => return Err(not_the_graph("It is in use as another graph.")),
            };
            if dsm.is_null() {
                return Err(not_the_graph("It is gone."));
            }
            pg_sys::dsm_pin_mapping(dsm);
            let bytes: &'static [u8] = slice::from_raw_parts(
                pg_sys::dsm_segment_address(dsm).cast(),
                pg_sys::dsm_segment_map_length(dsm).min(entry.bytes as usize),
            );
            let (slot, generation) = (entry.slot, entry.generation);
            open(bytes, entry)
                .map(|(view, quantizer)| Self { dsm, view, quantizer, slot, generation })
                .inspect_err(|_| pg_sys::dsm_detach(dsm))
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

/// The graph in `bytes`, if it is that of the segment that the entry names.
fn open(
    bytes: &'static [u8],
    entry: &Entry,
) -> Result<(ResidentView<'static>, Quantizer), Failure> {
    let prefix = format!("{}/{}", entry.index_uuid, entry.segment_uuid);
    let view = ResidentView::of(bytes, &prefix)
        .map_err(|error| not_the_graph(error.detail().unwrap_or_default()))?;
    let bits = Bits::from_u8(view.bits() as u8)
        .ok_or_else(|| not_the_graph(format!("No codes of {} bits exist.", view.bits())))?;
    let quantizer = Quantizer::new(
        view.dimensions(),
        bits,
        view.metric(),
        view.rotation_seed(),
        view.centroid().to_vec(),
    );
    Ok((view, quantizer))
}

fn not_the_graph(what: impl Into<String>) -> Failure {
    let message = "shared memory does not hold the graph of an index segment that it should";
    Failure::new(FailureKind::Corrupt, message).detail(what)
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

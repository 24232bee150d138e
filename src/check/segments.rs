//! Segments: what the store holds against the manifest, and the graphs in shared memory against the
//! store.

use std::collections::HashSet;
use std::sync::Arc;

use pgrx::pg_sys;
use segment::{Contents, Fault, Reader, SegmentAttributes, Verified};

use super::findings::{Finding, Findings, Part};
use super::moment::{graph, is_listed};
use super::{links, store};
use crate::errors::Failure;
use crate::pages::consistent;
use crate::pages::manifest::{self, SegmentEntry};
use crate::pages::meta::Parameters;

/// How often the manifest is looked at for segments that have come meanwhile. Those of the last look
/// have been written during the check.
const ROUNDS: usize = 3;

/// Checks all segments. What is wrong with one that has been replaced meanwhile counts for nothing:
/// its objects may be gone. Rows of vectors are read only if `vectors` says so.
pub fn check(index: pg_sys::Relation, vectors: bool, found: &mut Findings) {
    let mut checked = HashSet::new();
    for _ in 0..ROUNDS {
        let (parameters, segments) =
            consistent(index, |meta| Ok((meta.parameters, manifest::read(index, meta)?)));
        let new = segments.into_iter().filter(|segment| checked.insert(segment.segment_uuid));
        for segment in new.collect::<Vec<_>>() {
            pgrx::check_for_interrupts!();
            let mut one = One { parameters, segment, found: Vec::new() };
            one.check(vectors);
            if !one.found.is_empty() && is_listed(index, segment) {
                found.append(one.found);
            }
        }
    }
}

/// What has been read of a segment.
struct Stored {
    /// What it says about itself, if that can be read, and what its objects hold.
    whole: Option<(SegmentAttributes, Verified)>,
    faults: Vec<Fault>,
}

/// One segment.
struct One {
    parameters: Parameters,
    segment: SegmentEntry,
    found: Vec<Finding>,
}

impl One {
    fn add(&mut self, part: Part, place: impl Into<String>, problem: impl Into<String>) {
        let segment = Some(self.segment.segment_uuid);
        let (place, problem) = (place.into(), problem.into());
        self.found.push(Finding { part, segment, place, problem });
    }

    fn check(&mut self, vectors: bool) {
        let prefix = self.segment.prefix();
        let Stored { whole, faults } = read(&prefix, vectors);
        let sound = faults.is_empty();
        for fault in faults {
            self.add(Part::Objects, fault.key, fault.what);
        }
        let stored = whole.map(|(attributes, verified)| {
            self.compare(&prefix, &attributes, sound.then_some(verified.bytes));
            (attributes, verified.contents)
        });
        self.graph(&prefix, stored);
    }

    /// What the segment says about itself against what the index says about it.
    fn compare(&mut self, prefix: &str, a: &SegmentAttributes, bytes: Option<u64>) {
        let (p, s) = (self.parameters, self.segment);
        let text = |of: &dyn std::fmt::Display| of.to_string();
        for (what, index, segment) in [
            ("metric", text(&p.metric.name()), text(&a.metric.name())),
            ("dimensions", text(&p.dimensions), text(&a.dimensions)),
            ("m", text(&p.m), text(&a.m)),
            ("ef_construction", text(&p.ef_construction), text(&a.ef_construction)),
            ("bits", text(&p.bits), text(&a.bits)),
            ("payload", text(&p.payload.name()), text(&a.payload.name())),
            ("compression", text(&p.compression.name()), text(&a.compression.name())),
            ("compression_level", text(&p.compression_level), text(&a.compression_level)),
            ("rotation_seed", text(&p.rotation_seed), text(&a.rotation_seed)),
        ] {
            if index != segment {
                let problem = format!("its {what} is {segment}, that of the index {index}");
                self.add(Part::Objects, format!("{prefix}/zarr.json"), problem);
            }
        }
        for (what, listed, found) in [
            ("rows", s.rows, Some(a.rows.into())),
            ("entries", s.entries, Some(a.entries.into())),
            ("bytes", s.storage_bytes, bytes),
        ] {
            if let Some(found) = found.filter(|found| *found != listed) {
                let problem = format!("the manifest says {listed} {what}, the segment has {found}");
                self.add(Part::Manifest, prefix, problem);
            }
        }
    }

    /// The graph in shared memory, which is loaded if it is not there.
    fn graph(&mut self, prefix: &str, stored: Option<(SegmentAttributes, Contents)>) {
        let whole = stored.is_some_and(|(_, contents)| contents.is_whole());
        let graph = match graph(&self.segment) {
            Ok(graph) => graph,
            // When the objects are damaged that is why, and has been told.
            Err(_) if !whole => return,
            Err(problem) => return self.add(Part::Graph, prefix, problem),
        };
        let view = graph.view();
        let (rows, entries) = (view.rows() as u64, view.entries() as u64);
        if (rows, entries) != (self.segment.rows, self.segment.entries) {
            let problem =
                format!("the graph in memory is one of {rows} rows and {entries} entries");
            self.add(Part::Graph, prefix, problem);
        }
        let Some(seen) = store::compute(|stop| links::examine(view, stop)) else { return };
        for problem in seen.problems {
            self.add(Part::Graph, prefix, problem);
        }
        let Some((attributes, contents)) = stored else { return };
        if attributes != *view.attributes() {
            self.add(Part::Graph, prefix, "the graph in memory is that of another segment");
            return;
        }
        for array in contents.differing(&seen.contents, &attributes) {
            let problem = format!("{array} in memory are not those of the store");
            self.add(Part::Graph, format!("{prefix}/{array}"), problem);
        }
    }
}

/// Reads a segment from the store.
fn read(prefix: &str, vectors: bool) -> Stored {
    store::run(async |store| {
        let mut faults = Vec::new();
        let mut tell = |fault: Fault| {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        };
        let reader = match Reader::open(Arc::clone(store), prefix).await {
            Ok(reader) => reader,
            Err(error) => {
                tell(Fault::of(error)?);
                return Ok(Stored { whole: None, faults });
            }
        };
        let verified = reader.verify(&mut tell).await?;
        if vectors {
            reader.verify_vectors(&mut tell, &mut |_, _| ()).await?;
        }
        Ok::<_, Failure>(Stored { whole: Some((*reader.attributes(), verified)), faults })
    })
}

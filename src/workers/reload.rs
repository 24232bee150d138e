//! Graphs that were in memory when the server stopped are loaded again when it starts, the most used
//! ones first: part of the storage worker's loop.
//!
//! The worker keeps a list of them in a file. Only what the registry cannot tell goes through that
//! file: when just the worker is started anew, the graphs are still in memory.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::engine::{Message, Outbox};
use super::graph_list::{self, Remembered};
use crate::errors::{Failure, FailureKind};
use crate::settings;
use crate::shared::counters;
use crate::shared::registry::{self, State};

/// Loads under way at once: they share the network with queries.
const AT_ONCE: usize = 2;
/// How often the list is looked at, and saved when it is another one.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// How often all uses are halved. What a day has used a lot still outweighs a night's batch job in the
/// morning; after a day without use a sixteenth is left.
const FADE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// How long to wait when storage cannot be reached, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// What is still to be loaded again, and what has been saved.
pub struct Reload {
    file: PathBuf,
    waiting: VecDeque<Remembered>,
    loading: Vec<Remembered>,
    pause: Duration,
    not_before: Instant,
    /// What the file lists, in its order; `None` when that is not known.
    saved: Option<Vec<Uuid>>,
    next_save: Instant,
    next_fade: Instant,
    saving: Option<JoinHandle<()>>,
    /// The last attempt to save has failed.
    unsaved: Arc<AtomicBool>,
}

impl Reload {
    /// Reads the list when this is the first worker since the server started.
    pub fn new() -> Self {
        let now = Instant::now();
        let mut reload = Self {
            file: file(),
            waiting: VecDeque::new(),
            loading: Vec::new(),
            pause: PAUSE.0,
            not_before: now,
            saved: None,
            next_save: now + SAVE_EVERY,
            next_fade: now + FADE_EVERY,
            saving: None,
            unsaved: Arc::default(),
        };
        let starts =
            counters::get().map_or(0, |counters| counters.worker_starts.load(Ordering::Acquire));
        if starts == 1 && settings::graph_reload() {
            reload.read();
        }
        reload
    }

    fn read(&mut self) {
        match graph_list::read(&self.file) {
            Ok(graphs) => {
                let graphs = graphs.unwrap_or_default();
                if !graphs.is_empty() {
                    pgrx::log!(
                        "s3vector: loading {} graphs that were in memory before",
                        graphs.len()
                    );
                }
                self.saved = Some(names(&graphs));
                self.waiting = graphs.into();
            }
            Err(why) => {
                pgrx::log!("s3vector: ignoring the file {}: {why}", self.file.display());
                self.next_save = Instant::now();
            }
        }
    }

    /// Does what is due: requests graphs, has the list saved.
    pub fn work(&mut self, runtime: &Runtime, outbox: &Outbox) {
        if !(self.waiting.is_empty() && self.loading.is_empty()) {
            self.request();
        }
        let now = Instant::now();
        if now >= self.next_fade {
            registry::fade();
            self.next_fade = now + FADE_EVERY;
        }
        if now >= self.next_save {
            self.save(runtime, outbox);
            self.next_save = now + SAVE_EVERY;
        }
    }

    /// Requests the next graphs, as many as may be loaded at once.
    fn request(&mut self) {
        let entries = registry::entries();
        let states: HashMap<Uuid, State> =
            entries.iter().map(|entry| (entry.segment_uuid, entry.state)).collect();
        let under_way =
            |segment: &Uuid| matches!(states.get(segment), Some(State::Requested | State::Loading));
        self.loading.retain(|graph| under_way(&graph.segment_uuid));
        // What queries wait for comes first.
        if states.keys().filter(|segment| under_way(segment)).count() > self.loading.len()
            || Instant::now() < self.not_before
        {
            return;
        }
        let mut used: u64 = entries.iter().map(|entry| entry.bytes).sum();
        used += self.loading.iter().map(|graph| graph.bytes).sum::<u64>();
        while self.loading.len() < AT_ONCE
            && let Some(graph) = self.waiting.pop_front()
        {
            let here = states.contains_key(&graph.segment_uuid);
            // Nothing is dropped for it, least of all what queries have asked for meanwhile.
            if !here && used + graph.bytes > settings::graph_memory() {
                pgrx::debug1!("s3vector: no room to load segment {} again", graph.segment_uuid);
                continue;
            }
            if registry::reload(graph.index_uuid, graph.segment_uuid, graph.uses) {
                used += graph.bytes;
                self.loading.push(graph);
            }
        }
    }

    /// Takes note that a load has failed. Returns false when it was not for us: somebody waits
    /// for it.
    pub fn refused(&mut self, request: &registry::Request, failure: &Failure) -> bool {
        let ours = |graph: &Remembered| graph.segment_uuid == request.segment_uuid;
        let Some(at) = self.loading.iter().position(ours) else { return false };
        let graph = self.loading.swap_remove(at);
        registry::withdraw(request);
        let why = &failure.message;
        if passes(failure.kind) {
            pgrx::debug1!("s3vector: segment {} is loaded later: {why}", graph.segment_uuid);
            self.waiting.push_front(graph);
            self.not_before = Instant::now() + self.pause;
            self.pause = (self.pause * 2).min(PAUSE.1);
        } else {
            pgrx::log!("s3vector: segment {} is not loaded again: {why}", graph.segment_uuid);
        }
        true
    }

    /// Has the list saved by a thread when it names other graphs than the file, or in another order.
    fn save(&mut self, runtime: &Runtime, outbox: &Outbox) {
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return;
        }
        if self.unsaved.swap(false, Ordering::Relaxed) {
            self.saved = None;
        }
        let graphs = self.list();
        let names = names(&graphs);
        if self.saved.as_ref() == Some(&names) {
            return;
        }
        self.saved = Some(names);
        let (file, outbox) = (self.file.clone(), outbox.clone());
        let unsaved = Arc::clone(&self.unsaved);
        self.saving = Some(runtime.spawn_blocking(move || {
            if let Err(error) = graph_list::write(&file, &graphs) {
                unsaved.store(true, Ordering::Relaxed);
                outbox.send(Message::Failed(not_written(&file, &error)));
            }
        }));
    }

    /// Saves the list at the end of the process, with the uses as they are now.
    pub fn finish(mut self, runtime: &Runtime) {
        if let Some(saving) = self.saving.take() {
            // Only a panic could be reported, and has been.
            let _ = ::storage::with_signals_blocked(|| runtime.block_on(saving));
        }
        let graphs = self.list();
        if graphs.is_empty() && self.saved.is_some_and(|saved| saved.is_empty()) {
            return;
        }
        if let Err(error) = graph_list::write(&self.file, &graphs) {
            pgrx::log!("s3vector: {}", not_written(&self.file, &error));
        }
    }

    /// The graphs in memory and those to come, the most used first.
    fn list(&self) -> Vec<Remembered> {
        let ready = registry::entries().into_iter().filter(|entry| entry.state == State::Ready);
        let mut graphs: Vec<Remembered> = ready
            .map(|entry| Remembered {
                index_uuid: entry.index_uuid,
                segment_uuid: entry.segment_uuid,
                uses: entry.uses,
                bytes: entry.bytes,
            })
            .collect();
        for graph in self.waiting.iter().chain(&self.loading) {
            if !graphs.iter().any(|known| known.segment_uuid == graph.segment_uuid) {
                graphs.push(*graph);
            }
        }
        graphs.sort_by_key(|graph| (std::cmp::Reverse(graph.uses), graph.segment_uuid));
        graphs.truncate(registry::SLOTS);
        graphs
    }
}

/// Whether a failure is the store's and not the segment's: then others would fail too, and it may
/// be over some time later.
fn passes(kind: FailureKind) -> bool {
    use FailureKind::{Config, Denied, Timeout, Unreachable};
    matches!(kind, Config | Denied | Timeout | Unreachable)
}

fn names(graphs: &[Remembered]) -> Vec<Uuid> {
    graphs.iter().map(|graph| graph.segment_uuid).collect()
}

fn not_written(file: &Path, error: &std::io::Error) -> String {
    format!("could not write the file {}: {error}", file.display())
}

/// Where the list is: in the data directory, so that a standby made from it knows as well.
fn file() -> PathBuf {
    // SAFETY: DataDir is set before any library is loaded and never changes.
    let directory = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    Path::new(OsStr::from_bytes(directory.to_bytes())).join("s3vector.graphs")
}

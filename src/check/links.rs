//! The graph of a segment in memory: whether it is what a build makes. Runs on a thread: nothing
//! here calls PostgreSQL.

use hnsw::{Reached, crooked, validate};
use segment::{Contents, ResidentView};

use super::tid_text;

/// Findings of one kind that are told one by one.
const MOST: usize = 100;

/// What has been seen of a graph.
pub struct Seen {
    /// What it holds, to be compared with what is stored.
    pub contents: Contents,
    /// What is wrong with it, in words.
    pub problems: Vec<String>,
}

/// Looks at all of it. `None` when `stop` has said so.
pub fn examine(view: &ResidentView<'_>, stop: &dyn Fn() -> bool) -> Option<Seen> {
    let contents = Contents::of(view, stop)?;
    let mut problems = Vec::new();
    if let Err(error) = validate(&view.graph(), view.rows()) {
        problems.push(format!("an impossible graph: {error}"));
        return Some(Seen { contents, problems });
    }
    let mut lists = Several::default();
    crooked(&view.graph(), stop, |list| {
        let node = if list.level == 0 { "row" } else { "upper node" };
        lists.add(|| {
            let what = if list.neighbor == list.node { "itself" } else { "a neighbour twice" };
            format!("{node} {} has {what} among its neighbours on level {}", list.node, list.level)
        });
    });
    lists.finish(&mut problems, "lists name their own node or a neighbour twice");

    let mut lost = Several::default();
    for row in Reached::of(&view.graph(), stop)?.missing() {
        lost.add(|| {
            let tid = view.tids(row as usize).first().copied().unwrap_or_default();
            format!("no way leads to row {row}, whose first entry is {}", tid_text(tid))
        });
    }
    lost.finish(&mut problems, "rows cannot be reached");

    let mut wrong = Several::default();
    for (entry, tid) in view.all_tids().iter().enumerate().filter(|(_, tid)| !is_tid(**tid)) {
        wrong.add(|| format!("entry {entry} is {tid:#018x}, which names no row of a table"));
    }
    wrong.finish(&mut problems, "entries name no row of a table");
    if stop() { None } else { Some(Seen { contents, problems }) }
}

/// Whether a number can be block << 16 | offset.
fn is_tid(tid: u64) -> bool {
    tid >> 48 == 0 && tid & 0xFFFF != 0
}

/// Problems of one kind: the first ones in words, of the others the number.
#[derive(Default)]
struct Several {
    told: Vec<String>,
    more: usize,
}

impl Several {
    fn add(&mut self, words: impl FnOnce() -> String) {
        if self.told.len() < MOST {
            self.told.push(words());
        } else {
            self.more += 1;
        }
    }

    fn finish(self, problems: &mut Vec<String>, what: &str) {
        problems.extend(self.told);
        if self.more > 0 {
            problems.push(format!("{} more {what}", self.more));
        }
    }
}

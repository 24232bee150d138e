//! How many rows a plan is expected to read from an index scan.
//!
//! An access method does not see LIMIT, filters or joins, yet how it should begin hangs on how many
//! rows will be asked of it. When the executor starts, the plan is walked: for each of our scans it
//! is noted which Limit its rows flow to, and what lies between the two. The number itself is
//! computed when the scan is asked for its first row. By then the Limit has evaluated its own
//! expressions, so parameters of every kind are known, PL/pgSQL's too.
//!
//! It is a hint: a wrong one costs time, never a row.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use pgrx::pg_sys::{self, NodeTag};
use pgrx::prelude::*;

use super::scan;

/// What a plan is expected to ask of a scan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Rows it will read; infinite when nothing says that it stops before the end.
    pub rows: f64,
    /// Whether `rows` is a LIMIT that the scan's rows reach one for one: it will not read more, but for
    /// `ties`.
    pub exact: bool,
    /// Whether the first rows are read to be skipped: an OFFSET.
    pub paging: bool,
    /// Whether it reads on past them while the distance stays the same.
    pub ties: bool,
    /// Whether a node above puts rows in order from this one's: a sort of ties, a merge with other scans.
    pub ordered: bool,
    /// Whether a node above is wrong about rows that are out of order: a merge join, grouping, windows, a
    /// limit by ties.
    pub compared: bool,
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            rows: f64::INFINITY,
            exact: false,
            paging: false,
            ties: false,
            ordered: false,
            compared: false,
        }
    }
}

/// What lies above a scan.
#[derive(Clone, Copy)]
struct Above {
    /// The execution it belongs to.
    estate: *mut pg_sys::EState,
    /// The Limit that its rows flow to; null for none.
    limit: *mut pg_sys::LimitState,
    /// Rows that the planner expects to reach the Limit if it read them all.
    results: f64,
    /// Whether all rows of the scan reach it, and each once.
    direct: bool,
    /// Rows read beyond those counted.
    ahead: i64,
    ordered: bool,
    compared: bool,
}

thread_local! {
    /// By the address of a scan's ORDER BY keys, which the scan gets to see. Entries go with their
    /// execution's memory.
    static SCANS: RefCell<HashMap<usize, Noted>> = RefCell::default();
}

/// Rows that an incremental sort reads at least before it sorts, and the next one.
const SORTED_TOGETHER: i64 = 33;

/// What is known of a scan.
#[derive(Clone, Copy)]
struct Noted {
    above: Above,
    /// Rows of the scan for each row that reaches the Limit.
    per_result: f64,
}

/// What the plan is expected to ask of the scan whose ORDER BY keys the executor has at this address.
/// The scan has been asked for its first row.
pub fn of(keys: usize) -> Demand {
    let noted = SCANS.with_borrow(|scans| scans.get(&keys).copied());
    let Some(Noted { above, per_result }) = noted else { return Demand::default() };
    let Above { ordered, compared, .. } = above;
    let unknown = Demand { ordered, compared, ..Demand::default() };
    // SAFETY: null, or a node of an execution whose memory is there, or the entry would be gone.
    let Some(limit) = (unsafe { above.limit.as_ref() }) else { return unknown };
    let counted = limit.count.saturating_add(limit.offset);
    if limit.noCount || counted <= 0 {
        return unknown;
    }
    let counted = counted.saturating_add(above.ahead) as f64;
    Demand {
        rows: counted * per_result,
        exact: above.direct,
        paging: limit.offset > 0,
        ties: above.ahead > 0,
        ordered,
        compared,
    }
}

/// Notes what lies above each of our scans in a started plan.
///
/// # Safety
/// `query` is a query that the executor has just started.
pub unsafe fn note(query: *mut pg_sys::QueryDesc) {
    // SAFETY: by the contract.
    unsafe {
        let estate = (*query).estate;
        if estate.is_null() {
            return;
        }
        let top = Above {
            estate,
            limit: ptr::null_mut(),
            results: 1.0,
            direct: true,
            ahead: 0,
            ordered: false,
            compared: false,
        };
        let flows = (*query).planstate;
        let mut context = Context { above: top, flows, all: false, others: false };
        visit((*query).planstate, ptr::from_mut(&mut context).cast());
    }
}

/// What a node tells its children.
struct Context {
    above: Above,
    /// The child whose rows flow through the node.
    flows: *mut pg_sys::PlanState,
    /// Whether those of all children do.
    all: bool,
    /// Whether the node is wrong about rows of its other children that are out of order.
    others: bool,
}

/// # Safety
/// `node` is null or the state of a plan, with all below it; `context` points to a [`Context`].
#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::PlanState, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: by the contract; a node's tag tells its type, and the walker visits every child of a
    // valid node.
    unsafe {
        let context = &*context.cast::<Context>();
        let estate = context.above.estate;
        let mut above = match context.all || node == context.flows {
            true => context.above,
            // What the node above does with these rows is not known: all are read.
            false => Above {
                limit: ptr::null_mut(),
                ordered: false,
                compared: context.others,
                estate,
                ..context.above
            },
        };
        let mut flows = (*node).lefttree;
        let (mut all, mut others) = (false, false);
        let filters = !(*node).qual.is_null();
        above.direct &= !filters;
        match (*node).type_ {
            NodeTag::T_LimitState => {
                above.limit = node.cast();
                above.results = flows.as_ref().map_or(1.0, |child| (*child.plan).plan_rows);
                above.direct = true;
                let ties =
                    (*above.limit).limitOption == pg_sys::LimitOption::LIMIT_OPTION_WITH_TIES;
                above.ahead = i64::from(ties);
                above.compared |= ties;
            }
            NodeTag::T_IndexScanState => {
                note_scan(node.cast(), above);
                flows = ptr::null_mut();
            }
            NodeTag::T_ResultState | NodeTag::T_LockRowsState | NodeTag::T_GatherState => {}
            NodeTag::T_SubqueryScanState => {
                flows = (*node.cast::<pg_sys::SubqueryScanState>()).subplan;
            }
            // Rows of one distance are sorted by more; the next one tells where they end.
            NodeTag::T_IncrementalSortState => {
                above.ahead += SORTED_TOGETHER;
                above.ordered = true;
            }
            NodeTag::T_GatherMergeState => above.ordered = true,
            NodeTag::T_AppendState => all = true,
            NodeTag::T_MergeAppendState => (all, above.ordered) = (true, true),
            // Outer rows are read one by one, and come out never, once or many times.
            NodeTag::T_NestLoopState | NodeTag::T_HashJoinState | NodeTag::T_ProjectSetState => {
                above.direct = false
            }
            NodeTag::T_MergeJoinState
            | NodeTag::T_UniqueState
            | NodeTag::T_GroupState
            | NodeTag::T_WindowAggState => {
                (above.direct, above.compared) = (false, true);
                others = true;
            }
            NodeTag::T_AggState => {
                let sorted = pg_sys::AggStrategy::AGG_SORTED;
                others = (*(*node).plan.cast::<pg_sys::Agg>()).aggstrategy == sorted;
                flows = ptr::null_mut();
            }
            // It reads rows that another part of the plan makes, in their order.
            NodeTag::T_CteScanState => {
                let made_by = (*node.cast::<pg_sys::CteScanState>()).cteplanstate;
                let compared = above.compared || above.ordered;
                let above = Above { limit: ptr::null_mut(), ordered: false, compared, ..above };
                let mut context = Context { above, flows: made_by, all: false, others: false };
                if compared {
                    visit(made_by, ptr::from_mut(&mut context).cast());
                }
                flows = ptr::null_mut();
            }
            NodeTag::T_SortState | NodeTag::T_HashState => flows = ptr::null_mut(),
            _ => {
                others = above.compared || above.ordered;
                flows = ptr::null_mut();
            }
        }
        let mut context = Context { above, flows, all, others };
        pg_sys::planstate_tree_walker_impl(node, Some(visit), ptr::from_mut(&mut context).cast())
    }
}

/// Remembers what lies above a scan, if it is ours.
///
/// # Safety
/// `scan` is a started index scan.
unsafe fn note_scan(scan: *mut pg_sys::IndexScanState, above: Above) {
    // SAFETY: by the contract; the table stays open as long as the scan.
    unsafe {
        if !scan::is_ours((*scan).iss_RelationDesc) || (*scan).iss_OrderByKeys.is_null() {
            return;
        }
        let per_result = match above.direct {
            true => 1.0,
            false => table_rows(scan) / above.results.max(1.0),
        };
        forget_with(above.estate);
        let noted = Noted { above, per_result: per_result.max(1.0) };
        SCANS.with_borrow_mut(|scans| scans.insert((*scan).iss_OrderByKeys as usize, noted));
    }
}

/// Rows of the table that the scan would read to the end, as the planner estimates them.
///
/// # Safety
/// `scan` is a started index scan.
unsafe fn table_rows(scan: *mut pg_sys::IndexScanState) -> f64 {
    // SAFETY: by the contract.
    unsafe {
        if (*scan).ss.ps.qual.is_null() {
            return (*(*scan).ss.ps.plan).plan_rows;
        }
        let (mut pages, mut tuples, mut visible) = (0, 0.0, 0.0);
        pg_sys::estimate_rel_size(
            (*scan).ss.ss_currentRelation,
            ptr::null_mut(),
            &mut pages,
            &mut tuples,
            &mut visible,
        );
        tuples
    }
}

/// Has what is noted of an execution forgotten when its memory goes: the nodes are gone then, and
/// their addresses will be used again.
///
/// # Safety
/// `estate` is the state of a running execution.
unsafe fn forget_with(estate: *mut pg_sys::EState) {
    let known = SCANS.with_borrow(|scans| scans.values().any(|noted| noted.above.estate == estate));
    if known {
        return;
    }
    // SAFETY: by the contract; the callback lies in the memory with which it is called.
    unsafe {
        let context = (*estate).es_query_cxt;
        let size = size_of::<pg_sys::MemoryContextCallback>();
        let callback = pg_sys::MemoryContextAlloc(context, size);
        let callback = callback.cast::<pg_sys::MemoryContextCallback>();
        callback.write(pg_sys::MemoryContextCallback {
            func: Some(forget),
            arg: estate.cast(),
            next: ptr::null_mut(),
        });
        pg_sys::MemoryContextRegisterResetCallback(context, callback);
    }
}

/// Called while the memory of an execution is given back. Raises nothing.
unsafe extern "C-unwind" fn forget(estate: *mut c_void) {
    // A process that ends may have no map any more.
    let _ = SCANS.try_with(|scans| {
        if let Ok(mut scans) = scans.try_borrow_mut() {
            scans.retain(|_, noted| noted.above.estate.cast() != estate);
        }
    });
}

//! How many rows a plan wants from an index scan.
//!
//! An access method does not see LIMIT, yet the size of its first fetch hangs on it. When the
//! executor starts, the plan is searched for a Limit right above one of our scans, and the number
//! is kept under the address of the scan's ORDER BY keys, which the scan gets to see. It is a
//! hint: a wrong one costs a fetch, never a row.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::scan;

thread_local! {
    static WANTED: RefCell<HashMap<usize, usize>> = RefCell::default();
}

/// Hooks the ends of transactions. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: called on the main thread while the library is loaded.
    unsafe { pg_sys::RegisterXactCallback(Some(forget), ptr::null_mut()) };
}

/// Rows wanted by the scan with these ORDER BY keys, if the plan says.
pub fn wanted(keys: pg_sys::ScanKey) -> Option<usize> {
    WANTED.with(|wanted| wanted.borrow().get(&(keys as usize)).copied())
}

/// Scan states are gone when their transaction is, and their addresses will be used again.
#[pg_guard]
unsafe extern "C-unwind" fn forget(_event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    WANTED.with(|wanted| wanted.borrow_mut().clear());
}

/// Notes what the Limit nodes of a started plan ask of scans of ours.
///
/// # Safety
/// `node` is null or the state of a plan, with all below it; `context` is passed on.
#[pg_guard]
pub unsafe extern "C-unwind" fn visit(node: *mut pg_sys::PlanState, context: *mut c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: a node's tag tells its type; the walker visits every child of a valid node.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_LimitState {
            note(node.cast());
        }
        pg_sys::planstate_tree_walker_impl(node, Some(visit), context)
    }
}

/// Remembers what a Limit right above one of our scans asks for.
///
/// # Safety
/// `limit` is a started Limit node.
unsafe fn note(limit: *mut pg_sys::LimitState) {
    // SAFETY: by the contract; tags are checked before casting.
    unsafe {
        let mut child = (*limit).ps.lefttree;
        let mut ahead = 0;
        while let Some(node) = child.as_ref() {
            match node.type_ {
                pg_sys::NodeTag::T_ResultState => {}
                // Rows of one distance are sorted by more; the next one tells where they end.
                pg_sys::NodeTag::T_IncrementalSortState => ahead = 1,
                _ => break,
            }
            child = node.lefttree;
        }
        if child.is_null() || (*child).type_ != pg_sys::NodeTag::T_IndexScanState {
            return;
        }
        let scan = child.cast::<pg_sys::IndexScanState>();
        if !scan::is_ours((*scan).iss_RelationDesc) || (*scan).iss_OrderByKeys.is_null() {
            return;
        }
        let plan = (*limit).ps.plan.cast::<pg_sys::Limit>();
        let parameters = (*(*limit).ps.state).es_param_list_info;
        let Some(count) = constant((*plan).limitCount, parameters) else { return };
        let offset = constant((*plan).limitOffset, parameters).unwrap_or(0);
        let wanted =
            usize::try_from(count.saturating_add(offset).saturating_add(ahead)).unwrap_or(0);
        WANTED.with(|map| {
            map.borrow_mut().insert((*scan).iss_OrderByKeys as usize, wanted);
        });
    }
}

/// The value of a constant or of a parameter of the statement.
///
/// # Safety
/// `expression` is null or an expression of type bigint, `parameters` null or its parameters.
unsafe fn constant(
    expression: *mut pg_sys::Node,
    parameters: pg_sys::ParamListInfo,
) -> Option<i64> {
    if expression.is_null() {
        return None;
    }
    // SAFETY: by the contract; tags are checked before casting, the index before use.
    unsafe {
        match (*expression).type_ {
            pg_sys::NodeTag::T_Const => {
                let constant = expression.cast::<pg_sys::Const>();
                (!(*constant).constisnull).then(|| (*constant).constvalue.value() as i64)
            }
            pg_sys::NodeTag::T_Param if !parameters.is_null() => {
                let parameter = expression.cast::<pg_sys::Param>();
                let number = usize::try_from((*parameter).paramid).ok()?.checked_sub(1)?;
                if (*parameter).paramkind != pg_sys::ParamKind::PARAM_EXTERN
                    || number >= (*parameters).numParams as usize
                    || (*parameters).paramFetch.is_some()
                {
                    return None;
                }
                let value = (*parameters).params.as_slice((*parameters).numParams as usize)[number];
                (!value.isnull).then(|| value.value.value() as i64)
            }
            _ => None,
        }
    }
}

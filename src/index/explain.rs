//! EXPLAIN (ANALYZE) of our index scans: what a scan searched, looked up and fetched.
//!
//! PostgreSQL calls a hook for each node of a plan it prints, before the executor ends the scans,
//! so what a scan has counted can still be read. The numbers are totals over all loops, as those
//! of buffers are. What parallel workers did on the inner side of a join stays in their memory and
//! is not among them.

use std::ffi::{CStr, CString, c_char};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::scan;
use super::statistics::ScanStatistics;

static mut PREVIOUS_NODE: pg_sys::explain_per_node_hook_type = None;

/// Hooks EXPLAIN. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: called on the main thread while the library is loaded.
    unsafe {
        PREVIOUS_NODE = pg_sys::explain_per_node_hook;
        pg_sys::explain_per_node_hook = Some(explain_node);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn explain_node(
    node: *mut pg_sys::PlanState,
    ancestors: *mut pg_sys::List,
    relationship: *const c_char,
    plan_name: *const c_char,
    explain: *mut pg_sys::ExplainState,
) {
    // SAFETY: PostgreSQL passes a valid node and the state of the EXPLAIN that prints it.
    unsafe {
        if let Some(previous) = PREVIOUS_NODE {
            previous(node, ancestors, relationship, plan_name, explain);
        }
        if !(*explain).analyze {
            return;
        }
        if let Some(totals) = totals(node) {
            let output = Output { explain };
            match (*explain).format {
                pg_sys::ExplainFormat::EXPLAIN_FORMAT_TEXT => write_text(&output, &totals),
                _ => write_properties(&output, &totals),
            }
        }
    }
}

/// What the scan of a node has done; none for nodes that are not ours or have never run.
///
/// # Safety
/// `node` is a valid node of a plan that has not been ended.
unsafe fn totals(node: *mut pg_sys::PlanState) -> Option<ScanStatistics> {
    // SAFETY: by the contract; the tag is checked before casting.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_IndexScanState {
            return None;
        }
        let node = node.cast::<pg_sys::IndexScanState>();
        if !scan::is_ours((*node).iss_RelationDesc) || (*node).iss_ScanDesc.is_null() {
            return None;
        }
        scan::totals((*node).iss_ScanDesc)
    }
}

/// Lines for people: what is zero is left out unless that tells something.
fn write_text(output: &Output, scan: &ScanStatistics) {
    output.number(c"Segments Searched", scan.segments.into());
    if scan.walks > 0 {
        output.number(c"Graph Walks", scan.walks.into());
    }
    if scan.sweeps > 0 {
        output.text(c"Code Sweeps", &sweeps(scan));
    }
    if scan.sorted_rows > 0 {
        output.number(c"Rows Sorted", scan.sorted_rows);
    }
    output.number(c"Candidates", scan.candidates.into());
    if scan.delta_rows > 0 {
        output.number(c"Delta Rows", scan.delta_rows.into());
    }
    output.text(c"Rows Reranked", &reranked(scan));
    if scan.refined > 0 {
        output.number(c"Rows Refined", scan.refined.into());
    }
    if scan.late > 0 {
        output.number(c"Rows Late", scan.late.into());
    }
    if scan.chunks_fetched > 0 {
        output.text(c"Chunks Fetched", &chunks(scan));
    }
    if scan.waves > 0 || scan.heap_rows > 0 {
        output.text(c"Storage", &storage(scan, output.timing()));
    }
}

/// Properties for programs: all of them, always.
fn write_properties(output: &Output, scan: &ScanStatistics) {
    output.number(c"Segments Searched", scan.segments.into());
    output.number(c"Graph Walks", scan.walks.into());
    output.number(c"Code Sweeps", scan.sweeps.into());
    output.number(c"Rows Swept", scan.swept_rows);
    output.number(c"Rows Sorted", scan.sorted_rows);
    output.number(c"Candidates", scan.candidates.into());
    output.number(c"Delta Rows", scan.delta_rows.into());
    output.number(c"Rows Reranked", scan.reranked.into());
    output.number(c"Rows In Cache", scan.cache_hits.into());
    output.number(c"Rows From Table", scan.heap_rows.into());
    output.number(c"Rows Refined", scan.refined.into());
    output.number(c"Rows Late", scan.late.into());
    output.number(c"Chunks Fetched", scan.chunks_fetched.into());
    output.number(c"Chunks From Redis", scan.redis_chunks.into());
    output.number(c"Range Requests", scan.requests.into());
    output.number(c"Hedges", scan.hedges.into());
    output.number(c"Storage Bytes", scan.bytes);
    output.number(c"Waves", scan.waves.into());
    if output.timing() {
        output.milliseconds(c"Search Time", scan.search);
        output.milliseconds(c"Fetch Time", scan.fetch);
    }
}

/// "1 (100000 rows)"
fn sweeps(scan: &ScanStatistics) -> String {
    format!("{} ({} rows)", scan.sweeps, scan.swept_rows)
}

/// "17 (12 in cache, 5 fetched)"
fn reranked(scan: &ScanStatistics) -> String {
    if scan.reranked == 0 {
        return "0".to_owned();
    }
    let fetched = scan.reranked.saturating_sub(scan.cache_hits).saturating_sub(scan.heap_rows);
    let mut parts = vec![format!("{} in cache", scan.cache_hits)];
    if fetched > 0 {
        parts.push(format!("{fetched} fetched"));
    }
    if scan.heap_rows > 0 {
        parts.push(format!("{} from the table", scan.heap_rows));
    }
    format!("{} ({})", scan.reranked, parts.join(", "))
}

/// "4 (3 from Redis)"
fn chunks(scan: &ScanStatistics) -> String {
    match scan.redis_chunks {
        0 => scan.chunks_fetched.to_string(),
        redis => format!("{} ({redis} from Redis)", scan.chunks_fetched),
    }
}

/// "5 range requests, 1 hedge, 120 kB, 1 wave, 31.204 ms", or "failed, 2000.317 ms" when the table had
/// to be read instead.
fn storage(scan: &ScanStatistics, timing: bool) -> String {
    let mut parts = Vec::new();
    if scan.waves > 0 {
        parts.push(counted(scan.requests, "range request"));
        if scan.hedges > 0 {
            parts.push(counted(scan.hedges, "hedge"));
        }
        parts.push(format!("{} kB", scan.bytes.div_ceil(1024)));
        parts.push(counted(scan.waves, "wave"));
    }
    if scan.heap_rows > 0 {
        parts.push("failed".to_owned());
    }
    if timing {
        parts.push(format!("{:.3} ms", scan.fetch.as_secs_f64() * 1e3));
    }
    parts.join(", ")
}

fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Where one EXPLAIN prints: indents and quotes as its format wants it.
struct Output {
    /// Valid for as long as the hook runs.
    explain: *mut pg_sys::ExplainState,
}

impl Output {
    /// Whether times are asked for.
    fn timing(&self) -> bool {
        // SAFETY: valid by the field's contract.
        unsafe { (*self.explain).timing }
    }

    fn number(&self, label: &CStr, value: u64) {
        // SAFETY: valid by the field's contract; PostgreSQL copies the label.
        unsafe {
            pg_sys::ExplainPropertyUInteger(label.as_ptr(), std::ptr::null(), value, self.explain);
        }
    }

    fn milliseconds(&self, label: &CStr, time: std::time::Duration) {
        let value = time.as_secs_f64() * 1e3;
        // SAFETY: as above.
        unsafe {
            pg_sys::ExplainPropertyFloat(label.as_ptr(), c"ms".as_ptr(), value, 3, self.explain);
        }
    }

    fn text(&self, label: &CStr, value: &str) {
        let value = CString::new(value).unwrap_or_default();
        // SAFETY: as above; PostgreSQL copies the value.
        unsafe {
            pg_sys::ExplainPropertyText(label.as_ptr(), value.as_ptr(), self.explain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rows_are_told_by_where_their_distances_came_from() {
        let told = |reranked, cache_hits, heap_rows| {
            super::reranked(&ScanStatistics {
                reranked,
                cache_hits,
                heap_rows,
                ..ScanStatistics::default()
            })
        };
        assert_eq!(told(0, 0, 0), "0");
        assert_eq!(told(17, 17, 0), "17 (17 in cache)");
        assert_eq!(told(17, 12, 0), "17 (12 in cache, 5 fetched)");
        assert_eq!(told(2, 0, 2), "2 (0 in cache, 2 from the table)");
        assert_eq!(told(17, 12, 2), "17 (12 in cache, 3 fetched, 2 from the table)");
    }

    #[test]
    fn requests_are_told_with_hedges_and_times_only_where_there_are_any() {
        let mut scan = ScanStatistics {
            requests: 1,
            bytes: 24 * 1024,
            waves: 1,
            fetch: Duration::from_micros(31_204),
            ..ScanStatistics::default()
        };
        assert_eq!(storage(&scan, true), "1 range request, 24 kB, 1 wave, 31.204 ms");
        assert_eq!(storage(&scan, false), "1 range request, 24 kB, 1 wave");
        (scan.requests, scan.hedges, scan.bytes, scan.waves) = (5, 1, 1, 2);
        assert_eq!(storage(&scan, false), "5 range requests, 1 hedge, 1 kB, 2 waves");
        scan.heap_rows = 3;
        assert_eq!(storage(&scan, false), "5 range requests, 1 hedge, 1 kB, 2 waves, failed");
        assert_eq!(storage(&ScanStatistics { waves: 0, ..scan }, true), "failed, 31.204 ms");
        (scan.chunks_fetched, scan.redis_chunks) = (4, 0);
        assert_eq!(chunks(&scan), "4");
        scan.redis_chunks = 3;
        assert_eq!(chunks(&scan), "4 (3 from Redis)");
    }
}

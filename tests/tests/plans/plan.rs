//! What the scans of a plan did, from auto_explain's text.

/// A scan of one of our indexes, over all its loops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Times it was begun.
    pub loops: u64,
    /// Rows handed out although a farther one had been before.
    pub late: u64,
    /// Walks through graphs begun or gone on with.
    pub walks: u64,
    /// Passes over the codes.
    pub sweeps: u64,
    /// Whether parallel workers have scanned as well: what they did is not counted.
    pub parallel: bool,
}

impl Scan {
    /// Whether a single scan has gone over the codes more than once.
    pub fn swept_twice(&self) -> bool {
        self.sweeps > self.loops
    }
}

/// The scans of our indexes in a plan: those that have an order, which no other index here has.
pub fn scans(text: &str) -> Vec<Scan> {
    let mut scans = Vec::new();
    let mut current: Option<Scan> = None;
    let mut ordered = false;
    let parallel = text.contains("Workers Launched:") && !text.contains("Workers Launched: 0");
    let mut end = |scan: Option<Scan>, ordered: bool| {
        scans.extend(scan.filter(|scan| ordered && (scan.loops > 0 || parallel)));
    };
    for line in text.lines() {
        if is_node(line) {
            end(current.take(), ordered);
            ordered = false;
            if line.contains("Index Scan using ") {
                let loops = number_after(line, "loops=").unwrap_or(0);
                current = Some(Scan { loops, parallel, ..Scan::default() });
            }
        } else if let Some(scan) = &mut current {
            let number = |label| number_after(line, label).unwrap_or(0);
            ordered |= line.trim_start().starts_with("Order By: ");
            scan.late += number("Rows Late: ");
            scan.walks += number("Graph Walks: ");
            scan.sweeps += number("Code Sweeps: ");
        }
    }
    end(current.take(), ordered);
    scans
}

/// Whether a line begins a node of a plan.
fn is_node(line: &str) -> bool {
    line.contains("loops=") || line.contains("(never executed)")
}

fn number_after(line: &str, label: &str) -> Option<u64> {
    let rest = &line[line.find(label)? + label.len()..];
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[test]
fn scans_are_read_from_the_text_of_a_plan() {
    let text = "duration: 1.2 ms  plan:
Query Text: SELECT 1
Nested Loop  (cost=0.28..9.30 rows=1 width=12) (actual rows=30.00 loops=1)
  ->  Index Scan using side_pkey on side p  (cost=0.28..8.30 rows=1 width=4) (actual rows=3.00 loops=1)
        Index Cond: (id < 4)
  ->  Index Scan using t1_e on t1 t  (cost=0.28..8.30 rows=1 width=4) (actual rows=10.00 loops=3)
        Order By: (e <-> p.probe)
        Segments Searched: 9
        Rows Late: 2
        Graph Walks: 3
        Code Sweeps: 5
  ->  Index Scan using t1_f on t1 u  (cost=0.28..8.30 rows=1 width=4) (never executed)
        Order By: (f <-> p.probe)";
    let scan = Scan { loops: 3, late: 2, walks: 3, sweeps: 5, parallel: false };
    assert_eq!(scans(text), std::slice::from_ref(&scan));
    assert!(scan.swept_twice());
}

//! Random queries: what is asked, in which form, by which way, with which settings.

use fastrand::Rng;

use crate::filters;
use crate::forms::{self, Form, Texts};
use crate::ways::{Meanwhile, Way};
use crate::world::World;

/// Which rows an answer has, and in which order they come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Nearest rows passed over; of each group where there are groups.
    pub skip: usize,
    /// Rows then; without it all.
    pub take: Option<usize>,
    /// Whether rows as near as the last one come too.
    pub ties: bool,
    /// Whether rows come in order of their distance.
    pub ordered: bool,
    /// Whether rows of one distance come in order of their ids.
    pub by_id: bool,
}

/// What a query must be about, so that all is met often enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Nothing.
    Anything,
    /// The nearest rows, which a walk finds.
    Nearest,
    /// Rows that lie far from the vector, which nobody could know: a walk finds too few.
    Far,
    /// All rows are read, without a limit in sight.
    Whole,
    /// The same, with so little memory that the codes have to be swept again.
    WholeInLittleMemory,
    /// Segments are merged while a cursor is half read.
    Merge,
}

/// A query.
#[derive(Clone, Debug)]
pub struct Query {
    /// Its texts.
    pub texts: Texts,
    /// What it looks like.
    pub form: Form,
    /// The vector.
    pub vector: String,
    /// Another one.
    pub another: String,
    /// The condition under which a row is in the index.
    pub indexed: String,
    /// What must come.
    pub expected: Expected,
    /// How it is asked.
    pub way: Way,
    /// Settings, name and value.
    pub settings: Vec<(&'static str, String)>,
    /// Whether the planner is left nothing but the index.
    pub forced: bool,
    /// Whether rows must come in exact order: `s3vector.rerank`.
    pub strict: bool,
    /// Whether the search is wide enough to find nearly all that it should.
    pub thorough: bool,
    /// Its transaction's isolation level.
    pub isolation: &'static str,
    /// What its transaction does before: rows that it alone sees.
    pub own_changes: Vec<String>,
}

impl Query {
    /// The `turn`th query on a table.
    pub fn draw(rng: &mut Rng, world: &World, turn: usize, aim: Aim) -> Self {
        let columns = world.columns.len();
        let free = aim == Aim::Anything;
        let column = match aim {
            // In turns, so that each finds its graph gone.
            _ if world.crowded => turn % columns,
            Aim::Anything => rng.usize(..columns),
            // The second column's vectors may be few.
            _ => 0,
        };
        let column = &world.columns[column];
        let mut expected = Expected { ordered: true, ..Expected::default() };
        if matches!(aim, Aim::Nearest | Aim::Far) {
            expected.take = Some(rng.usize(1..=10));
        } else if free && rng.u32(..3) > 0 {
            expected.take = Some(
                [0, 1, 1, 5, 10, 10, 10, 37, 100, 100, 300, 1000, forms::ALL][rng.usize(..13)],
            );
            expected.skip = [0, 0, 0, 0, 3, 50, 400][rng.usize(..7)];
        }
        let limited = expected.take.is_some();
        let form = if free { Form::draw(rng, limited) } else { Form::Plain };
        let filter = match aim {
            Aim::Anything | Aim::Whole => filters::draw(rng, world, column),
            Aim::Far => filters::far(world),
            Aim::Nearest | Aim::WholeInLittleMemory | Aim::Merge => "true".to_owned(),
        };
        let filter = format!("{} AND {filter}", column.condition());
        let texts = forms::build(rng, world, column, form, &filter, &mut expected);
        let way = match aim {
            Aim::Merge => Way::merging(rng),
            Aim::Nearest | Aim::Far => [Way::Direct, Way::Custom, Way::Function][rng.usize(..3)],
            // FETCH 0 and a loop that ends before it begins are something else.
            _ if expected.take == Some(0) => [Way::Direct, Way::Generic][rng.usize(..2)],
            _ => Way::draw(rng, form, limited),
        };
        let mut query = Self {
            texts,
            form,
            vector: column.query(rng),
            another: column.query(rng),
            indexed: column.indexed(),
            expected,
            way,
            settings: Vec::new(),
            forced: !free || rng.u32(..4) > 0,
            strict: true,
            thorough: true,
            isolation: ["REPEATABLE READ", "SERIALIZABLE"][usize::from(rng.u32(..6) == 0)],
            own_changes: Vec::new(),
        };
        query.draw_settings(rng, aim);
        // Others' locks would be in the way of changes, and a commit would keep them.
        let possible = !form.skips_locked() && !query.way.outlives_transaction();
        if free && possible && rng.u32(..6) == 0 {
            query.own_changes = own_changes(rng, world);
        }
        query
    }

    /// Whether nobody may write beside it: it locks or changes rows, in a snapshot that is fixed.
    pub fn needs_quiet(&self) -> bool {
        self.form.locks() || !self.own_changes.is_empty()
    }

    /// What happens while its cursor is open.
    pub fn meanwhile(&self) -> Meanwhile {
        match self.way {
            // Others would wait for rows that this transaction has changed or locked.
            Way::Cursor(cursor) if cursor.meanwhile == Meanwhile::Vacuum && self.needs_quiet() => {
                Meanwhile::Nothing
            }
            Way::Cursor(cursor) => cursor.meanwhile,
            _ => Meanwhile::Nothing,
        }
    }

    fn draw_settings(&mut self, rng: &mut Rng, aim: Aim) {
        let ef_search = match aim {
            Aim::Nearest | Aim::Far => 100,
            _ => [1, 10, 40, 100, 100, 100, 400, 2000][rng.usize(..8)],
        };
        self.thorough = ef_search >= 40;
        let mut settings = vec![("s3vector.ef_search", ef_search.to_string())];
        let mut set = |name, value: &str| settings.push((name, value.to_owned()));
        if aim == Aim::Anything && !self.form.needs_order() && rng.u32(..6) == 0 {
            set("s3vector.rerank", ["relaxed", "off"][rng.usize(..2)]);
            self.strict = false;
        }
        if aim == Aim::WholeInLittleMemory || rng.u32(..4) == 0 {
            set("work_mem", "64kB");
        }
        if rng.u32(..4) == 0 {
            set("s3vector.wave_rows", ["1", "3", "1000"][rng.usize(..3)]);
        }
        if rng.u32(..8) == 0 {
            set("effective_io_concurrency", "0");
        }
        if self.forced {
            set("enable_seqscan", "off");
            set("enable_sort", "off");
        }
        for name in [
            "enable_hashjoin",
            "enable_mergejoin",
            "enable_material",
            "enable_memoize",
            "enable_hashagg",
            "enable_incremental_sort",
            "enable_bitmapscan",
        ] {
            if rng.u32(..4) == 0 {
                set(name, "off");
            }
        }
        if rng.u32(..8) == 0 {
            for name in
                ["parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"]
            {
                set(name, "0");
            }
        }
        match self.way {
            Way::Generic => set("plan_cache_mode", "force_generic_plan"),
            Way::Custom => set("plan_cache_mode", "force_custom_plan"),
            _ => {}
        }
        self.settings = settings;
    }
}

/// Changes that only the transaction itself sees: it is rolled back.
fn own_changes(rng: &mut Rng, world: &World) -> Vec<String> {
    let first = 10_000_000;
    let fine = rng.u32(..70);
    let mut changes = vec![world.insert(first, first + 30)];
    if rng.bool() {
        changes.push(world.upsert(first + 20, first + 40));
    }
    if rng.bool() {
        changes.push(world.delete(&format!("fine = {fine}")));
    }
    if rng.bool() {
        changes.push(world.update(rng.usize(1..1000), &format!("fine = {}", fine + 10)));
    }
    if rng.bool() {
        changes.push("SAVEPOINT back".to_owned());
        changes.push(world.insert(first + 50, first + 60));
        changes.push(world.delete(&format!("fine = {}", fine + 20)));
        changes.push("ROLLBACK TO back".to_owned());
    }
    changes
}

//! What passes the fault points: the statement, how it is brought to pass them, and what others do
//! while it stands at one.

use harness::answers::assert_all_found;
use harness::items::literal;

use crate::ground::Ground;
use crate::ways::Way;

/// A statement that passes fault points.
pub struct Verb {
    /// The points, in the order they are passed.
    pub points: &'static [&'static str],
    /// Brings the table into a state in which the statement passes the point.
    pub prepare: fn(&mut Ground, point: &str),
    /// The statement.
    pub statement: fn(&Ground) -> String,
    /// What others do while it stands at the point.
    pub meanwhile: fn(&mut Ground, point: &str),
    /// Takes into account what the statement has done.
    pub done: fn(&mut Ground),
}

impl Verb {
    /// Dies at a point, in one of the ways.
    pub fn die(&self, ground: &mut Ground, point: &str, way: Way) {
        (self.prepare)(ground, point);
        let statement = (self.statement)(ground);
        ground.strike(point, way, &statement, |ground| (self.meanwhile)(ground, point));
        if way == Way::GoOn {
            (self.done)(ground);
        }
    }

    /// Dies at every point in each of the ways. Each time everything that must hold is asserted,
    /// and the next try works.
    pub fn die_everywhere(&self, ground: &mut Ground, ways: &[Way]) {
        for way in ways {
            for point in self.points {
                println!("{point}: {way:?}");
                self.die(ground, point, *way);
                ground.check();
                if *way != Way::GoOn {
                    let statement = (self.statement)(ground);
                    ground.run(&statement);
                    (self.done)(ground);
                }
            }
        }
    }
}

/// CREATE INDEX, of another index on the same table.
pub const BUILD: Verb = Verb {
    points: &["build.segment_written", "build.before_publish", "build.published"],
    prepare: |ground, _| ground.thin(),
    statement: |_| "CREATE INDEX second ON items USING s3vector (embedding vector_l2_ops)".into(),
    meanwhile: |ground, _| ask(ground),
    done: |ground| ground.run("DROP INDEX second"),
};

/// REINDEX: the old index must stay when the new one fails.
pub const REBUILD: Verb = Verb {
    points: BUILD.points,
    prepare: |ground, _| churn(ground),
    statement: |_| "REINDEX INDEX items_index".into(),
    // Nobody may use the index.
    meanwhile: |_, _| (),
    done: |_| (),
};

/// INSERT. Others vacuum and flush, so that the row moves into a segment before its transaction
/// has ended.
pub const INSERT: Verb = Verb {
    points: &["insert.before_append", "insert.appended"],
    prepare: |ground, _| {
        ground.thin();
        ground.grow(80);
        ground.reserve(1);
    },
    statement: |ground| {
        let row = |(id, vector): &(usize, Vec<f32>)| format!("({id}, {})", literal(vector));
        let rows: Vec<String> = ground.pending.iter().map(row).collect();
        format!("INSERT INTO items VALUES {}", rows.join(", "))
    },
    meanwhile: |ground, _| {
        ground.run("VACUUM (INDEX_CLEANUP ON) items");
        ground.flush();
        ground.grow(10);
        ask(ground);
    },
    done: |ground| {
        for (id, vector) in std::mem::take(&mut ground.pending) {
            ground.items.rows[id] = Some(vector);
        }
    },
};

/// INSERT of rows that take several pages: the point between these and their link.
pub const INSERT_MANY: Verb = Verb {
    points: &["insert.pages_written"],
    prepare: |ground, _| {
        ground.thin();
        // A page takes 113.
        ground.reserve(250);
    },
    ..INSERT
};

/// The flush of a delta. Others vacuum rows away that are being flushed and put new ones in their
/// places.
pub const FLUSH: Verb = Verb {
    points: &["flush.frozen", "flush.segment_written", "flush.before_swap", "flush.swapped"],
    prepare: |ground, _| churn(ground),
    statement: |_| "SELECT * FROM s3vector_flush('items_index')".into(),
    meanwhile: replace,
    done: |_| (),
};

/// The merges that follow a flush: a third of the rows of every segment is dead.
pub const MERGE: Verb = Verb {
    points: &["merge.read", "merge.segment_written", "merge.before_swap", "merge.swapped"],
    ..FLUSH
};

/// Packing the relation after a flush. Nobody may use the index while it is truncated.
pub const REPACK: Verb =
    Verb { points: &["repack.moved", "repack.before_truncate"], meanwhile: |_, _| (), ..FLUSH };

/// VACUUM of rows in segments and of rows in the delta.
pub const VACUUM: Verb = Verb {
    points: &["vacuum.delta_removed", "vacuum.tombstones_set", "vacuum.published"],
    prepare: |ground, _| {
        ground.thin();
        ground.grow(130);
        ground.trim(30);
    },
    statement: |_| "VACUUM (INDEX_CLEANUP ON) items".into(),
    meanwhile: |ground, _| {
        ground.grow(20);
        ask(ground);
        // What is asked about does not move into a segment meanwhile.
        ground.waits("SELECT * FROM s3vector_flush('items_index')");
        ask(ground);
    },
    done: |_| (),
};

/// A sweep over a dropped index and replaced segments. Others flush: what they write and what they
/// replace was not there when the sweep looked.
pub const SWEEP: Verb = Verb {
    points: &["sweep.judged", "sweep.deleted"],
    prepare: |ground, point| {
        // Without a grace period nothing needs a mark.
        let grace = if point == "sweep.judged" { "1" } else { "0" };
        ground.configure(&[("s3vector.gc_grace", grace)]);
        churn(ground);
        ground.flush();
        ground.run("CREATE INDEX second ON items USING s3vector (embedding vector_l2_ops)");
        ground.run("DROP INDEX second");
    },
    statement: |_| "SELECT * FROM s3vector_sweep()".into(),
    meanwhile: |ground, _| {
        ground.grow(20);
        ground.flush();
        ground.vacuum();
        ask(ground);
    },
    done: |_| (),
};

/// Every verb.
pub const VERBS: [&Verb; 9] =
    [&BUILD, &REBUILD, &INSERT, &INSERT_MANY, &FLUSH, &MERGE, &REPACK, &VACUUM, &SWEEP];

/// Replaces a third of the rows, vacuums, and deletes some new rows without vacuuming: every
/// segment is worth rewriting, the delta has something to flush.
pub fn churn(ground: &mut Ground) {
    ground.thin();
    ground.vacuum();
    let missing = 300_usize.saturating_sub(ground.items.len()).max(40);
    let dimensions = ground.items.rows.iter().flatten().next().map_or(0, Vec::len);
    // Wide rows are costly, and few of them fill many pages.
    ground.grow(if dimensions > 2000 { 15 } else { missing });
    ground.trim(10);
}

/// Vacuums rows that were deleted before, puts new ones in their places, and asks.
pub fn replace(ground: &mut Ground, point: &str) {
    if point.ends_with("before_swap") {
        // What vacuum has removed has just been looked up for the swap.
        ground.waits("VACUUM (INDEX_CLEANUP ON) items");
    } else {
        ground.vacuum();
    }
    ground.grow(20);
    ask(ground);
}

/// Asks for some rows by their own vectors.
fn ask(ground: &mut Ground) {
    let ids: Vec<usize> = ground.live().into_iter().rev().step_by(9).take(30).collect();
    assert_all_found(&mut ground.client, &ground.items, ids);
}

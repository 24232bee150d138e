//! Arrays that hold something else than they should, with the right checksums.

use harness::python;

use crate::{Ground, expect};

/// Changes an array in the store.
fn edit(ground: &Ground, array: &str, statements: &str) {
    python::run("edit_array.py", &[&ground.folder().to_string_lossy(), array, statements]);
}

/// Has the graph loaded anew.
fn reload(ground: &mut Ground) {
    ground.cluster.restart();
}

/// The row whose links are cut, not the one where searches begin.
const CUT: &str = "
for links in a:
    kept = [row for row in links if row != 17]
    links[:] = kept + [0xFFFFFFFF] * (len(links) - len(kept))";

#[test]
fn a_row_that_no_way_leads_to() {
    let mut ground = Ground::new(600, "");
    edit(&ground, "neighbors", CUT);
    reload(&mut ground);
    expect(&ground.findings(), &["graph"], &["no way leads to row 17"]);
}

#[test]
fn a_link_that_leads_nowhere() {
    let mut ground = Ground::new(600, "");
    edit(&ground, "neighbors", "a[5, 0] = 600");
    reload(&mut ground);
    let found = ground.findings();
    expect(&found, &["graph", "heap"], &["impossible graph", "neighbors"]);
    expect(&found, &["graph", "heap"], &["its entries are not compared with the table"]);
}

#[test]
fn a_row_that_is_its_own_neighbour() {
    let mut ground = Ground::new(600, "");
    edit(&ground, "neighbors", "a[5, 1] = 5");
    reload(&mut ground);
    expect(&ground.findings(), &["graph"], &["row 5 has itself among its neighbours"]);
}

#[test]
fn a_neighbour_that_stands_there_twice() {
    let mut ground = Ground::new(600, "");
    edit(&ground, "neighbors", "a[5, 1] = a[5, 0]");
    reload(&mut ground);
    expect(&ground.findings(), &["graph"], &["row 5 has a neighbour twice"]);
}

/// What an earlier version could do: the graph in memory is not the one that is stored.
#[test]
fn a_graph_in_memory_that_is_another_one() {
    for (array, statements) in [
        ("codes", "a[7, 3] ^= 1"),
        ("factors", "a[7, 0] += 1"),
        ("neighbors", "a[7, [0, 1]] = a[7, [1, 0]]"),
        ("tids", "a[[4, 5]] = a[[5, 4]]"),
        ("centroid", "a[0] += 1"),
    ] {
        let ground = Ground::new(300, "");
        edit(&ground, array, statements);
        expect(&ground.findings(), &["graph"], &[array, "in memory are not those of the store"]);
    }
}

#[test]
fn a_vector_that_is_not_the_row_s() {
    for with in ["", "WITH (payload = 'float16')"] {
        let ground = Ground::new(600, with);
        edit(&ground, "vectors", "a[123, 4] += 1");
        let found = ground.findings();
        expect(&found, &["vectors"], &["not that of the row"]);
        assert_eq!(found.len(), 1, "{found:?}");
        // Only the deep check compares them, and it names the row.
        let sql = "SELECT count(*) FROM s3vector_check('items_index')";
        let count: i64 = ground.client().query_one(sql, &[]).expect("a check").get(0);
        assert_eq!(count, 0);
        let sql = "SELECT count(*) FROM items WHERE ctid = $1::text::tid";
        let row: i64 = ground.client().query_one(sql, &[&found[0].place]).expect("a row").get(0);
        assert_eq!(row, 1, "{found:?}");
    }
}

#[test]
fn a_tid_too_few() {
    let mut ground = Ground::new(600, "");
    edit(&ground, "tids", "a[9] = a[10]");
    reload(&mut ground);
    let found = ground.findings();
    expect(&found, &["heap", "vectors"], &["the row is not in the index"]);
    expect(&found, &["heap", "vectors"], &["the row is in the index more than once"]);
}

#[test]
fn tids_that_lead_nowhere() {
    let mut ground = Ground::new(600, "");
    let statements =
        "a[9] = (100000 << 16) | 1; a[10] = (0 << 16) | 2000; a[11] = 1 << 60; a[12] = 7 << 16";
    edit(&ground, "tids", statements);
    reload(&mut ground);
    let found = ground.findings();
    for words in [
        ["(100000,1)", "a block beyond the end of the table"],
        ["(0,2000)", "a line pointer that does not exist"],
        ["entry 11 is 0x1000000000000000", "names no row of a table"],
        ["entry 12 is", "names no row of a table"],
    ] {
        expect(&found, &["heap", "graph"], &words);
    }
    let missing = found.iter().filter(|finding| finding.problem.contains("is not in the index"));
    assert_eq!(missing.count(), 4, "{found:#?}");
}

/// So many findings that they are no longer told one by one.
#[test]
fn an_index_that_has_nothing_right() {
    let mut ground = Ground::new(1500, "");
    edit(&ground, "tids", "a += 1000 << 16");
    reload(&mut ground);
    let found = ground.findings();
    assert_eq!(found.len(), 1001, "{:#?}", &found[..3]);
    let last = found.last().expect("a finding");
    assert_eq!(last.problem, "2000 more findings of this part are not listed");
}

//! Pages of the index relation that hold something else than they should.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use harness::check::try_check;
use harness::cluster::Stop;
use harness::errors::failure;
use harness::process::run_as_server_user;
use harness::tools;
use harness::upkeep::flush;

use crate::{Ground, expect};

const PAGE: usize = 8192;
/// Bytes of a page's header, before its body.
const HEADER: usize = 24;
/// Where the special space begins: magic, kind, version, next.
const SPECIAL: usize = PAGE - 16;

const META: u16 = 1;
const MANIFEST: u16 = 2;
const DELTA: u16 = 3;
const TOMBSTONES: u16 = 5;

/// The index's file, while the server is down.
struct Pages {
    file: File,
    pages: Vec<Vec<u8>>,
}

impl Pages {
    /// Stops the server, lets `edit` change the pages, and starts it again.
    fn edit(ground: &mut Ground, edit: impl FnOnce(&mut Self)) {
        let path: String = ground
            .client()
            .query_one("SELECT pg_relation_filepath('items_index')", &[])
            .expect("a path")
            .get(0);
        let path: PathBuf = ground.cluster.data().join(path);
        ground.cluster.stop(Stop::Fast);
        // PostgreSQL's own checksums would find it first, and are not everywhere.
        let control = Command::new(tools::postgres("pg_controldata"))
            .arg(ground.cluster.data())
            .output()
            .expect("pg_controldata");
        if !String::from_utf8_lossy(&control.stdout).contains("page checksum version:           0")
        {
            run_as_server_user(
                Command::new(tools::postgres("pg_checksums"))
                    .args(["--disable", "--no-sync", "-D"])
                    .arg(ground.cluster.data()),
            );
        }
        let file = File::options().read(true).write(true).open(path).expect("the index's file");
        let bytes = file.metadata().expect("a length").len() as usize;
        let mut content = vec![0; bytes];
        file.read_exact_at(&mut content, 0).expect("pages");
        let mut pages = Self { file, pages: content.chunks(PAGE).map(<[u8]>::to_vec).collect() };
        edit(&mut pages);
        pages.file.write_all_at(&pages.pages.concat(), 0).expect("pages are written");
        ground.cluster.start_server();
    }

    /// The pages of a kind.
    fn of(&mut self, kind: u16) -> impl Iterator<Item = (u32, &mut Vec<u8>)> {
        let all = (0..).zip(&mut self.pages);
        all.filter(move |(_, page)| u16_at(page, SPECIAL + 4) == kind)
    }

    /// The first page of a kind that has a body.
    fn first(&mut self, kind: u16) -> (u32, &mut Vec<u8>) {
        let used = |page: &[u8]| usize::from(u16_at(page, 12)) > HEADER;
        self.of(kind).find(|(_, page)| used(page)).expect("a page of this kind")
    }
}

fn u16_at(page: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn set_next(page: &mut [u8], block: u32) {
    page[SPECIAL + 8..SPECIAL + 12].copy_from_slice(&block.to_le_bytes());
}

/// A table with rows in two segments and in the delta.
fn ground() -> Ground {
    let mut ground = Ground::new(600, "");
    let mut client = ground.client();
    let more = ground.source.vectors(40);
    ground.items.copy(&mut client, more);
    assert_eq!(flush(&mut client, "items_index").segments, 2);
    let more = ground.source.vectors(300);
    ground.items.copy(&mut client, more);
    drop(client);
    assert_eq!(ground.findings(), []);
    ground
}

#[test]
fn a_page_that_was_overwritten() {
    for (kind, name) in [(MANIFEST, "Manifest"), (TOMBSTONES, "Tombstones"), (DELTA, "Delta")] {
        let mut ground = ground();
        // With a header that PostgreSQL accepts.
        Pages::edit(&mut ground, |pages| pages.first(kind).1[HEADER..].fill(0x5A));
        expect(&ground.findings(), &["pages"], &[&format!("not a {name}")]);
    }
    let mut ground = ground();
    Pages::edit(&mut ground, |pages| pages.first(DELTA).1.fill(0x5A));
    failure(try_check(&mut ground.client(), "items_index", false))
        .expect("XX001", &["invalid page"]);
    let mut ground = self::ground();
    Pages::edit(&mut ground, |pages| pages.first(META).1[SPECIAL] ^= 1);
    expect(&ground.findings(), &["pages"], &["block 0", "not a Meta page"]);
}

#[test]
fn a_list_that_goes_in_a_circle() {
    let mut ground = ground();
    Pages::edit(&mut ground, |pages| {
        let (block, page) = pages.first(DELTA);
        set_next(page, block);
    });
    expect(&ground.findings(), &["pages"], &["the delta list comes back to block"]);
}

#[test]
fn a_list_that_goes_on_in_another_one_or_nowhere() {
    let mut ground = ground();
    Pages::edit(&mut ground, |pages| {
        let (tombstones, _) = pages.first(TOMBSTONES);
        let (_, delta) = pages.first(DELTA);
        set_next(delta, tombstones);
    });
    expect(
        &ground.findings(),
        &["pages"],
        &["the delta list goes on at block", "of the tombstones list"],
    );
    let mut ground = self::ground();
    Pages::edit(&mut ground, |pages| set_next(pages.first(MANIFEST).1, 9999));
    expect(&ground.findings(), &["pages"], &["the manifest list goes on at block 9999 of"]);
}

#[test]
fn counters_that_are_wrong() {
    // As the meta page stores them: after the uuid and three words come rows and entries.
    for (at, words) in [(16 + 24, "rows, the manifest 640"), (16 + 32, "entries, the manifest 640")]
    {
        let mut ground = ground();
        Pages::edit(&mut ground, |pages| pages.first(META).1[HEADER + at] ^= 1);
        expect(&ground.findings(), &["manifest"], &["it counts", words]);
    }
}

#[test]
fn a_segment_that_is_listed_twice() {
    let mut ground = ground();
    Pages::edit(&mut ground, |pages| {
        let page = pages.first(MANIFEST).1;
        page.copy_within(HEADER..HEADER + 96, HEADER + 96);
    });
    expect(
        &ground.findings(),
        &["manifest", "tombstones", "heap", "vectors"],
        &["the segment is listed twice"],
    );
}

#[test]
fn a_tombstone_too_many() {
    let mut ground = ground();
    // The bits of the first segment, 600 of them, end amid a word: what follows is nobody's.
    Pages::edit(&mut ground, |pages| pages.first(TOMBSTONES).1[HEADER + 600 / 8 + 1] |= 1);
    expect(&ground.findings(), &["tombstones"], &["beyond its 600 entries"]);
}

/// More bits are set than there are entries: what counts them counts none that is nobody's.
#[test]
fn tombstones_on_all_entries_and_beyond() {
    let mut ground = ground();
    Pages::edit(&mut ground, |pages| pages.first(TOMBSTONES).1[HEADER..HEADER + 640 / 8].fill(!0));
    let found = ground.findings();
    let parts = ["tombstones", "heap"];
    expect(&found, &parts, &["beyond its 600 entries"]);
    expect(&found, &parts, &["the row is not in the index"]);
    let mut client = ground.client();
    let tombstones = "SELECT tombstones FROM s3vector_index_info('items_index')";
    assert_eq!(client.query_one(tombstones, &[]).expect("a count").get::<_, i64>(0), 600);
    client.batch_execute("VACUUM items").expect("vacuum");
    let tuples = "SELECT reltuples FROM pg_class WHERE relname = 'items_index'";
    // Those of the second segment and of the delta.
    assert_eq!(client.query_one(tuples, &[]).expect("an estimate").get::<_, f32>(0), 340.0);
    flush(&mut client, "items_index");
    assert_eq!(client.query_one(tombstones, &[]).expect("a count").get::<_, i64>(0), 0);
}

/// What the fault did that made VACUUM ask about the entries of another segment: tombstones stand on
/// rows that live, and not on those that were removed.
#[test]
fn tombstones_on_the_wrong_entries() {
    let mut ground = ground();
    let mut client = ground.client();
    ground.items.delete(&mut client, |id| id < 80);
    client.batch_execute("VACUUM items").expect("vacuum");
    drop(client);
    assert_eq!(ground.findings(), []);
    Pages::edit(&mut ground, |pages| {
        let page = pages.first(TOMBSTONES).1;
        page[HEADER..HEADER + 600 / 8].rotate_left(3);
    });
    let found = ground.findings();
    let parts = ["heap"];
    expect(&found, &parts, &["the row is not in the index"]);
    expect(&found, &parts, &["an unused line pointer"]);
}

#[test]
fn a_row_of_the_delta_that_is_marked_dead() {
    let mut ground = ground();
    Pages::edit(&mut ground, |pages| pages.first(DELTA).1[HEADER + 7] |= 0x80);
    let found = ground.findings();
    expect(&found, &["heap"], &["the row is not in the index"]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn rows_of_the_delta_that_are_none() {
    let mut ground = ground();
    Pages::edit(&mut ground, |pages| {
        let page = pages.first(DELTA).1;
        let row = 8 + 4 * crate::DIMENSIONS;
        page[HEADER + 6] = 1;
        page[HEADER + row + 8..HEADER + row + 12].copy_from_slice(&f32::NAN.to_le_bytes());
        // A page that ends amid a row.
        let lower = u16_at(page, 12) - 4;
        page[12..14].copy_from_slice(&lower.to_le_bytes());
    });
    let found = ground.findings();
    for words in ["names no row of a table", "holds NaN", "no whole rows"] {
        expect(&found, &["pages", "heap", "vectors"], &[words]);
    }
}

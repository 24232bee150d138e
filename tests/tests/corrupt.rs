//! Is a damaged object always an error that names it, or made good by the table, never a wrong or
//! missing row?

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use harness::answers::prefer_index;
use harness::check::{Finding, assert_sound, findings};
use harness::errors::failure;
use harness::items::Source;
use harness::{Cluster, Items, Metric, answers};
use postgres::Client;

const ROWS: usize = 300;
const DIMENSIONS: usize = 24;

/// The arrays that answers depend on.
const ARRAYS: [&str; 6] = ["vectors", "codes", "factors", "neighbors", "tids", "tid_offsets"];

/// What happens to an object.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Deleted,
    Truncated,
    Emptied,
    BitFlipped,
}

impl Damage {
    const ALL: [Self; 4] = [Self::Deleted, Self::Truncated, Self::Emptied, Self::BitFlipped];

    fn inflict(self, object: &Path) {
        let bytes = fs::metadata(object).expect("the object exists").len();
        let open =
            || File::options().read(true).write(true).open(object).expect("the object opens");
        match self {
            Self::Deleted => fs::remove_file(object).expect("the object is removed"),
            Self::Truncated => open().set_len(bytes / 2).expect("the object is cut"),
            Self::Emptied => open().set_len(0).expect("the object is emptied"),
            Self::BitFlipped => {
                // In the first inner chunk: the middle of a small array may be padding of a shard.
                let (file, mut byte) = (open(), [0]);
                file.read_exact_at(&mut byte, 5).expect("a byte is read");
                file.write_all_at(&[byte[0] ^ 0x10], 5).expect("a byte is written");
            }
        }
    }

    fn sqlstate(self) -> &'static str {
        match self {
            Self::Deleted => "58P01",
            _ => "XX001",
        }
    }
}

/// The folder of a table's only segment.
fn segment(cluster: &Cluster, client: &mut Client, table: &str) -> PathBuf {
    let prefix: String = client
        .query_one(&format!("SELECT prefix FROM s3vector_segments('{table}_index')"), &[])
        .expect("one segment")
        .get(0);
    cluster.store().join(prefix)
}

/// The first object with elements of an array, by name.
fn object(array: &Path) -> PathBuf {
    let mut folder = array.to_owned();
    loop {
        let mut names: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.file_name().is_some_and(|name| name != "zarr.json"))
            .collect();
        names.sort();
        folder = names.into_iter().next().expect("the array has objects");
        if folder.is_file() {
            return folder;
        }
    }
}

/// Chooses what a query does about vectors that it cannot read.
fn fall_back_to(client: &mut Client, what: &str) {
    client.batch_execute(&format!("SET s3vector.payload_fallback = {what}")).expect("a setting");
}

/// One index for each array and damage, all damaged while the server is down, so that nothing of
/// them is in memory. Asking for all rows needs every object.
fn damaged(compression: &str) {
    let mut cluster = Cluster::start();
    cluster.damaged();
    let mut client = cluster.client();
    let mut source = Source::new(51, DIMENSIONS);
    let vectors = source.vectors(ROWS);
    let mut cases = Vec::new();
    for array in ARRAYS {
        for damage in Damage::ALL {
            let table = format!("t_{array}_{damage:?}").to_lowercase();
            let items = Items::create(&mut client, &table, Metric::L2, vectors.clone());
            items.index(&mut client, &format!("WITH (compression = '{compression}')"));
            let object = object(&segment(&cluster, &mut client, &table).join(array));
            cases.push((array, damage, items, object));
        }
    }
    let sound = Items::create(&mut client, "sound", Metric::L2, vectors);
    sound.index(&mut client, &format!("WITH (compression = '{compression}')"));

    cluster.restart();
    for (_, damage, _, object) in &cases {
        damage.inflict(object);
    }
    let mut client = cluster.client();
    prefer_index(&mut client);
    for (array, damage, items, object) in &cases {
        println!("{array} {damage:?}");
        let name = object.strip_prefix(cluster.store()).expect("an object of the store");
        let query = source.vector();
        fall_back_to(&mut client, "error");
        let result = answers::try_ask(&mut client, items, &query, ROWS);
        failure(result).expect(damage.sqlstate(), &[&name.to_string_lossy()]);
        // Vectors are in the table, too; nothing else is.
        fall_back_to(&mut client, "heap");
        if *array == "vectors" {
            assert_eq!(answers::ask(&mut client, items, &query, ROWS).len(), ROWS);
        } else {
            let result = answers::try_ask(&mut client, items, &query, ROWS);
            failure(result).expect(damage.sqlstate(), &[&name.to_string_lossy()]);
        }
    }
    for (array, damage, items, _) in &cases {
        let found = findings(&mut client, &format!("{}_index", items.table));
        let says = |finding: &Finding| finding.place.contains(&format!("/{array}/"));
        assert!(found.iter().any(says), "{array} {damage:?}: {found:#?}");
    }
    // The damage of others is none of a sound index's business.
    assert_sound(&mut client, "sound_index");
    answers::assert_recall(&mut client, &sound, &source.vectors(200), 0.95);
}

#[test]
fn uncompressed() {
    damaged("none");
}

#[test]
fn zstd() {
    damaged("zstd");
}

/// Objects swapped between two segments: each is sound in itself, and still not the right one.
#[test]
fn swapped_segments() {
    let mut cluster = Cluster::start();
    cluster.damaged();
    let mut client = cluster.client();
    let mut source = Source::new(52, DIMENSIONS);
    let one = Items::create(&mut client, "one", Metric::L2, source.vectors(ROWS));
    let other = Items::create(&mut client, "other", Metric::L2, source.vectors(ROWS - 7));
    one.index(&mut client, "");
    other.index(&mut client, "");
    let from = segment(&cluster, &mut client, "one");
    let to = segment(&cluster, &mut client, "other");
    cluster.restart();
    fs::copy(object(&from.join("tids")), object(&to.join("tids"))).expect("copied");
    let mut client = cluster.client();
    prefer_index(&mut client);
    failure(answers::try_ask(&mut client, &other, &source.vector(), ROWS))
        .expect("XX001", &["tids"]);
    answers::assert_recall(&mut client, &one, &source.vectors(200), 0.95);
}

/// REINDEX, which the error recommends, does repair.
#[test]
fn reindex_repairs() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(53, DIMENSIONS);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(ROWS));
    items.index(&mut client, "");
    let folder = segment(&cluster, &mut client, "items");
    cluster.restart();
    fs::remove_dir_all(folder).expect("the segment is removed");
    let mut client = cluster.client();
    prefer_index(&mut client);
    failure(answers::try_ask(&mut client, &items, &source.vector(), 10))
        .expect("58P01", &["REINDEX"]);
    client.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    answers::assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

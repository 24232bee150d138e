//! The file that tells a data directory from its copies: it outlives the server, backups leave it out,
//! and without it nothing is deleted.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::answers::{assert_all_found, assert_recall};
use harness::check::findings;
use harness::cluster::Stop;
use harness::errors::failure;
use harness::process::give_to_server_user;
use harness::upkeep::{flush, info, sweep, try_flush, try_sweep};
use harness::{Cluster, store};

use super::{indexed, strict};

fn token(cluster: &Cluster) -> PathBuf {
    cluster.data().join("pg_stat_tmp/s3vector.token")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_cluster_owns_its_folders_whenever_it_starts_again() {
    let mut cluster = strict().start();
    let (mut items, mut source) = indexed(&mut cluster.client(), 300);
    let uuid = info(&mut cluster.client(), "items_index").uuid;
    let first = text(&token(&cluster));
    for how in 0..3 {
        match how {
            0 => cluster.stop(Stop::Fast),
            1 => cluster.stop(Stop::Immediate),
            _ => cluster.crash(),
        }
        cluster.start_server();
        assert_eq!(text(&token(&cluster)), first);
        let mut client = cluster.client();
        assert!(info(&mut client, "items_index").owned);
        items.copy(&mut client, source.vectors(300));
        flush(&mut client, "items_index");
        let found = info(&mut client, "items_index");
        assert_eq!((found.uuid.as_str(), found.owned), (uuid.as_str(), true));
        sweep(&mut client, false);
        let segments = store::segments(&cluster.store()).len();
        assert_eq!(i32::try_from(segments), Ok(found.segments), "what is replaced is swept");
        assert_all_found(&mut client, &items, items.live().step_by(7));
    }
    assert_recall(&mut cluster.client(), &items, &source.vectors(50), 0.95);
}

#[test]
fn a_base_backup_leaves_the_token_out() {
    let cluster = strict().start();
    let (items, mut source) = indexed(&mut cluster.client(), 300);
    let place = tempfile::tempdir_in(harness::tools::directory()).expect("a folder");
    give_to_server_user(place.path());
    let copy = cluster.base_backup_in(place.path());
    let found: Vec<_> = fs::read_dir(place.path()).expect("a folder").flatten().collect();
    let data = found[0].path().join("data");
    assert!(data.join("pg_stat_tmp").is_dir());
    assert!(!data.join("pg_stat_tmp/s3vector.token").exists());
    assert!(token(&cluster).exists());
    let copy = copy.start_bare();
    assert_ne!(text(&token(&copy)), text(&token(&cluster)));
    assert_recall(&mut copy.client(), &items, &source.vectors(50), 0.95);
}

/// Lost, damaged or copied from elsewhere: the cluster is a stranger to what it wrote, leaves it
/// alone, writes into a new folder, and takes the old one over when it is told to.
#[test]
fn a_cluster_without_its_token_deletes_nothing_until_it_adopts() {
    for damage in ["lost", "lost with its folder", "emptied", "cut short", "copied"] {
        println!("{damage}");
        let mut cluster = strict().start();
        let (mut items, mut source) = indexed(&mut cluster.client(), 300);
        let old = info(&mut cluster.client(), "items_index").uuid;
        cluster.stop(Stop::Fast);
        let path = token(&cluster);
        let whole = text(&path);
        match damage {
            "lost" => fs::remove_file(&path).expect("removed"),
            "lost with its folder" => {
                fs::remove_dir_all(path.parent().expect("a folder")).expect("removed");
            }
            "emptied" => fs::write(&path, "").expect("emptied"),
            "cut short" => fs::write(&path, &whole[..whole.len() / 2]).expect("cut"),
            _ => {
                let copy = path.with_extension("copy");
                fs::copy(&path, &copy).expect("copied");
                give_to_server_user(&copy);
                fs::rename(&copy, &path).expect("renamed");
            }
        }
        cluster.start_server();
        assert_ne!(text(&path), whole);
        let mut client = cluster.client();
        assert!(!info(&mut client, "items_index").owned);
        assert_all_found(&mut client, &items, items.live().step_by(7));
        let before = store::written(&cluster.store());
        items.copy(&mut client, source.vectors(300));
        flush(&mut client, "items_index");
        sweep(&mut client, false);
        let after = store::objects(&cluster.store());
        assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
        let found = info(&mut client, "items_index");
        assert!(found.owned && found.uuid != old, "{found:?}");

        // A second start finds the new token.
        drop(client);
        cluster.restart();
        let mut client = cluster.client();
        assert!(info(&mut client, "items_index").owned);
        client
            .batch_execute("SELECT s3vector_adopt(); REINDEX INDEX items_index")
            .expect("adopted");
        sweep(&mut client, false);
        let own = info(&mut client, "items_index").uuid;
        assert_eq!(store::folders(&cluster.store()), [own].into());
        assert_recall(&mut client, &items, &source.vectors(50), 0.95);
    }
}

/// What cannot be told is not guessed: nothing is written or deleted; queries go on.
#[test]
fn a_token_that_cannot_be_kept_stops_maintenance_and_nothing_else() {
    let mut cluster = strict().start();
    let (mut items, mut source) = indexed(&mut cluster.client(), 300);
    cluster.stop(Stop::Fast);
    let path = token(&cluster);
    let folder = path.parent().expect("a folder").to_owned();
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).expect("moved aside");
    fs::set_permissions(&folder, Permissions::from_mode(0o500)).expect("locked");
    cluster.start_server();
    let mut client = cluster.client();
    items.copy(&mut client, source.vectors(100));
    assert_all_found(&mut client, &items, items.live().step_by(7));
    assert!(!info(&mut client, "items_index").owned);
    let before = store::objects(&cluster.store());
    let words = ["pg_stat_tmp/s3vector.token", "restart"];
    failure(try_flush(&mut client, "items_index")).expect("58030", &words);
    failure(try_sweep(&mut client, false)).expect("58030", &words);
    failure(client.batch_execute("REINDEX INDEX items_index")).expect("58030", &words);
    let found = findings(&mut client, "items_index");
    let places: Vec<_> = found.iter().map(|one| (one.part.as_str(), one.place.as_str())).collect();
    assert_eq!(places, [("owner", "pg_stat_tmp/s3vector.token")], "{found:?}");
    assert!(before == store::objects(&cluster.store()));
    drop(client);
    cluster.stop(Stop::Fast);
    fs::set_permissions(&folder, Permissions::from_mode(0o700)).expect("unlocked");
    fs::rename(&aside, &path).expect("moved back");
    cluster.start_server();
    let mut client = cluster.client();
    assert!(info(&mut client, "items_index").owned);
    flush(&mut client, "items_index");
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
}

//! Does a sweep leave what others have stored in the same place, and who may sweep?

use std::fs;

use harness::answers::assert_recall;
use harness::errors::failure;
use harness::upkeep::{Swept, info, sweep, try_sweep};
use harness::{Cluster, store};

use super::{indexed, strict};

#[test]
fn only_superusers_sweep() {
    let cluster = strict();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, "items", 300);
    client
        .batch_execute("CREATE ROLE plain LOGIN; GRANT SELECT ON items TO plain")
        .expect("a role");
    let mut plain = cluster.client_as("plain");
    for dry_run in [true, false] {
        failure(try_sweep(&mut plain, dry_run)).expect("42501", &[]);
    }
    failure(plain.query("SELECT s3vector_adopt()", &[])).expect("42501", &[]);
    assert_recall(&mut plain, &items, &source.vectors(200), 0.95);
}

/// Objects of others lie in the same place.
#[test]
fn what_is_not_ours_is_never_listed_or_deleted() {
    let cluster = strict();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, "items", 300);
    let strangers = [
        "notes.txt",
        "images.zarr/zarr.json",
        "images.zarr/c/0/0",
        "b5f7a1de-0b9e-4c55-8f7e-3d1f4a0e9c11/zarr.json",
        "b5f7a1de-0b9e-4c55-8f7e-3d1f4a0e9c11/5d0a3a6e-29a9-4d4b-9d55-6a1c2b3d4e5f/zarr.json",
    ];
    for name in strangers {
        let path = cluster.store().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, "mine").expect("an object");
    }
    client.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    for dry_run in [true, false] {
        let swept = sweep(&mut client, dry_run);
        assert!(!swept.is_empty());
        let stranger = |line: &Swept| strangers.iter().any(|name| name.starts_with(&line.prefix));
        assert!(!swept.iter().any(stranger), "{swept:?}");
    }
    for name in strangers {
        assert_eq!(fs::read(cluster.store().join(name)).expect("it is there"), b"mine", "{name}");
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Folders that nobody sweeps because they do not say whose they are: those of this database's indexes,
/// and any that has a damaged claim. Looked at only, whatever their content.
#[test]
fn a_dry_run_lists_folders_whose_owner_is_not_known() {
    let cluster = strict();
    cluster.damaged();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, "items", 300);
    indexed(&mut client, "gone", 200);
    let uuids = ["items_index", "gone_index"].map(|index| info(&mut client, index).uuid);
    let [items_uuid, gone_uuid] = &uuids;
    client.batch_execute("DROP TABLE gone").expect("dropped");
    let claims = uuids.each_ref().map(|uuid| cluster.store().join(uuid).join("owner.json"));
    let ours = claims.each_ref().map(|claim| fs::read(claim).expect("a claim"));
    for claim in &claims {
        fs::write(claim, "no JSON").expect("damaged");
    }
    let before = store::objects(&cluster.store());
    let mut listed = sweep(&mut client, true);
    listed.sort_by_key(|line| line.prefix == *gone_uuid);
    let told: Vec<_> = listed.iter().map(|l| (l.prefix.as_str(), l.reason.as_str())).collect();
    let damaged = "damaged owner.json";
    assert_eq!(told, [(items_uuid.as_str(), damaged), (gone_uuid.as_str(), damaged)]);
    for line in &listed {
        let below = before.iter().filter(|(key, _)| key.starts_with(&line.prefix));
        let (objects, bytes) = below.fold((0, 0), |(n, sum), (_, body)| (n + 1, sum + body.len()));
        assert_eq!(
            (usize::try_from(line.objects), usize::try_from(line.bytes)),
            (Ok(objects), Ok(bytes))
        );
        assert!(line.since.is_none() && !line.deleted, "{line:?}");
    }
    assert!(sweep(&mut client, false).is_empty(), "it is not swept");
    // Of those without a claim only this database's: any folder could be called like that.
    for claim in &claims {
        fs::remove_file(claim).expect("removed");
    }
    let listed = sweep(&mut client, true);
    let told: Vec<_> = listed.iter().map(|l| (l.prefix.as_str(), l.reason.as_str())).collect();
    assert_eq!(told, [(items_uuid.as_str(), "missing owner.json")]);
    assert!(sweep(&mut client, false).is_empty(), "it is not swept");
    for (claim, body) in claims.iter().zip(&ours) {
        assert!(!claim.exists(), "the sweep made a claim");
        fs::write(claim, body).expect("brought back");
    }
    assert!(before.len() == store::objects(&cluster.store()).len(), "something was deleted");
    let swept = sweep(&mut client, false);
    let told: Vec<_> = swept.iter().map(|l| (l.prefix.as_str(), l.reason.as_str())).collect();
    assert_eq!(told, [(gone_uuid.as_str(), "dropped index")]);
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
}

/// Two clusters that share a store see each other's folders, and leave them.
#[test]
fn another_cluster_in_the_same_store() {
    let cluster = strict();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, "items", 300);
    let other = Cluster::builder()
        .set("s3vector.storage_url", format!("file://{}", cluster.store().display()))
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 0)
        .start();
    let mut neighbour = other.client();
    let (theirs, _) = indexed(&mut neighbour, "items", 300);
    let uuid = info(&mut neighbour, "items_index").uuid;
    let before = store::objects(&cluster.store().join(&uuid));
    let listed = sweep(&mut client, true);
    assert!(
        listed.iter().any(|line| line.prefix == uuid && line.reason == "foreign"),
        "{listed:?}"
    );
    let swept = sweep(&mut client, false);
    assert!(swept.iter().all(|line| !line.deleted), "{swept:?}");
    neighbour.batch_execute("DROP TABLE items").expect("dropped");
    sweep(&mut client, false);
    assert!(before == store::objects(&cluster.store().join(&uuid)), "the neighbour's was changed");
    assert!(sweep(&mut neighbour, false).iter().any(|line| line.prefix == uuid && line.deleted));
    assert!(!store::folders(&cluster.store()).contains(&uuid));
    assert_eq!(theirs.len(), 300);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

//! Sweeping a bucket of an S3 server.

use harness::answers::{assert_all_found, assert_recall};
use harness::upkeep::{flush, info, sweep};
use harness::wait::wait_for;
use harness::{Cluster, Garage};

use super::{indexed, live};

/// On S3: a dropped index and replaced segments.
#[test]
fn a_bucket_is_swept() {
    let garage = Garage::start();
    let cluster = Cluster::builder()
        .set_all(&garage.settings())
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 0)
        .start();
    let mut client = cluster.client();
    let strangers =
        ["readme.txt", "test/readme.txt", "test/images.zarr/zarr.json", "testing/zarr.json"];
    for key in strangers {
        garage.put(key, "mine");
    }
    let (mut items, mut source) = indexed(&mut client, "items", 300);
    let (gone, _) = indexed(&mut client, "gone", 200);
    let gone_uuid = info(&mut client, "gone_index").uuid;
    assert_recall(&mut client, &gone, &source.vectors(20), 0.95);
    client.batch_execute("DROP TABLE gone").expect("dropped");
    for _ in 0..2 {
        items.copy(&mut client, source.vectors(250));
        flush(&mut client, "items_index");
    }
    let before = garage.objects();
    let listed = sweep(&mut client, true);
    assert!(listed.iter().any(|line| line.prefix == gone_uuid), "{listed:?}");
    assert!(listed.iter().any(|line| line.reason == "unused segment"), "{listed:?}");
    assert!(before == garage.objects(), "a dry run changes nothing");
    assert!(sweep(&mut client, false).iter().all(|line| line.deleted));

    let uuid = info(&mut client, "items_index").uuid;
    let live = live(&mut client);
    let after = garage.objects();
    for key in after.keys().filter(|key| !strangers.contains(&key.as_str())) {
        let ours = key.strip_prefix("test/").expect("below the prefix");
        let needed = live.iter().any(|prefix| ours.starts_with(&format!("{prefix}/")));
        assert!(needed || ours == format!("{uuid}/owner.json"), "{key} is left");
    }
    assert!(strangers.iter().all(|key| after.get(*key) == Some(&4)), "{after:?}");
    assert_all_found(&mut client, &items, (0..800).step_by(9));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A dropped index is swept by the worker from a bucket, too, when its grace period is over.
#[test]
fn the_worker_sweeps_a_bucket() {
    let garage = Garage::start();
    let cluster = Cluster::builder()
        .set_all(&garage.settings())
        .set("s3vector.gc_grace", 1)
        .set("s3vector.sweep_interval", 1)
        .start();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, "items", 300);
    let (_, _) = indexed(&mut client, "gone", 200);
    let uuid = info(&mut client, "gone_index").uuid;
    client.batch_execute("DROP TABLE gone").expect("dropped");
    wait_for("the worker to sweep", || {
        (!garage.objects().keys().any(|key| key.contains(&uuid))).then_some(())
    });
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

//! The arrays as another reader sees them: zarrs opens what was written and reads the same.

mod common;

use std::sync::Arc;

use common::{Sample, shapes, store};
use distance::Payload;
use zarrs::array::{Array, ArraySubset, ElementOwned};
use zarrs::filesystem::FilesystemStore;
use zarrs::group::Group;

fn read<T: ElementOwned>(store: &Arc<FilesystemStore>, name: &str) -> (Vec<u64>, Vec<T>) {
    let array = Array::open(Arc::clone(store), &format!("/{name}")).expect(name);
    let names = array.dimension_names().as_ref().expect("named dimensions");
    assert!(names.iter().all(Option::is_some));
    let whole = ArraySubset::new_with_shape(array.shape().to_vec());
    let elements = array.retrieve_array_subset::<Vec<T>>(&whole).expect(name);
    (array.shape().to_vec(), elements)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zarrs_reads_every_array() {
    for shape in shapes() {
        let (directory, store) = store();
        let sample = Sample::new(shape);
        sample.write(&store, "s").await.expect("written");
        let path = directory.path().join("s");
        let zarr = Arc::new(FilesystemStore::new(&path).expect("a store"));

        let group = Group::open(Arc::clone(&zarr), "/").expect("a group");
        let attributes = &group.attributes()["s3vector"];
        assert_eq!(attributes["metric"], "cosine");
        assert_eq!(attributes["rotation_seed"], (u64::MAX - 3).to_string());
        assert_eq!(group.child_arrays().expect("arrays").len(), 10);

        let a = &sample.attributes;
        let (rows, m) = (u64::from(a.rows), u64::from(a.m));
        let vectors = match shape.payload {
            Payload::Float32 => read::<f32>(&zarr, "vectors"),
            Payload::Float16 => {
                let (shape, halves) = read::<half::f16>(&zarr, "vectors");
                (shape, halves.into_iter().map(f32::from).collect())
            }
        };
        assert_eq!(vectors, (vec![rows, u64::from(a.dimensions)], sample.vectors));
        assert_eq!(read(&zarr, "codes"), (vec![rows, u64::from(a.code_bytes)], sample.codes));
        assert_eq!(read(&zarr, "factors"), (vec![rows, 3], sample.factors));
        assert_eq!(read(&zarr, "neighbors"), (vec![rows, 2 * m], sample.graph.neighbors));
        let nodes = sample.graph.upper_nodes.len() as u64;
        assert_eq!(read(&zarr, "upper_nodes"), (vec![nodes], sample.graph.upper_nodes));
        let offsets = if nodes == 0 { 0 } else { nodes + 1 };
        assert_eq!(read(&zarr, "upper_offsets"), (vec![offsets], sample.graph.upper_offsets));
        let lists = vec![u64::from(a.upper_lists), m];
        assert_eq!(read(&zarr, "upper_neighbors"), (lists, sample.graph.upper_neighbors));
        assert_eq!(read(&zarr, "tids"), (vec![u64::from(a.entries)], sample.tids));
        assert_eq!(read(&zarr, "tid_offsets"), (vec![rows + 1], sample.tid_offsets));
        assert_eq!(read(&zarr, "centroid"), (vec![u64::from(a.dimensions)], sample.centroid));
    }
}

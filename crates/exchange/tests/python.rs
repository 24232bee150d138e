//! What zarr-python writes is read here, and what is written here zarr-python reads.
//!
//! `S3VECTOR_PYTHON` names a Python with zarr and xarray; `scripts/env.sh` sets it.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{SMALL, at, bits, read_all};
use exchange::{Export, ExportInfo, ReadLimits, Source};

/// Runs a script of the folder `python`; answers what it printed.
fn run(script: &str, arguments: &[&str]) -> String {
    let python = std::env::var_os("S3VECTOR_PYTHON").map(PathBuf::from).unwrap_or_else(|| {
        panic!(
            "S3VECTOR_PYTHON is not set: run the tests with `make test`, or after \
             `eval \"$(scripts/env.sh)\"`"
        )
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let output = Command::new(python)
        .args(["-W", "error", "-B"])
        .arg(&script)
        .args(arguments)
        .output()
        .expect("python starts");
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} failed:\n{printed}{errors}", script.display());
    assert!(errors.is_empty(), "{} warned:\n{errors}", script.display());
    printed.into_owned()
}

/// The numbers in a `.npy` file of little-endian `float32`.
fn read_npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("a file");
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert!(String::from_utf8_lossy(&bytes[10..10 + header]).contains("'<f4'"));
    bytes[10 + header..].as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect()
}

#[test]
fn all_that_zarr_python_writes_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let printed = run("write_arrays.py", &[&path.to_string_lossy()]);
    let runtime = storage::runtime("test", 2).expect("a runtime");
    let store = at(path);
    let mut arrays = 0;
    for line in printed.lines() {
        let parts: Vec<&str> = line.split_whitespace().collect();
        let [name, ids, metadata] = parts[..] else { panic!("{line}") };
        let named = |name: &str| (name != "-").then(|| name.to_owned());
        let (ids, metadata) = (named(ids), named(metadata));
        let expected = read_npy(&path.join(name).join("expected.npy"));
        let texts = std::fs::read(path.join(name).join("expected.json")).expect("a file");
        let texts: serde_json::Value = serde_json::from_slice(&texts).expect("JSON");
        let text = |name: &Option<String>| -> Option<Vec<String>> {
            let texts = &texts[name.as_ref()?];
            Some(serde_json::from_value(texts.clone()).expect("strings"))
        };
        for limits in [ReadLimits::default(), SMALL] {
            let all = runtime.block_on(async {
                let vectors = format!("{name}/vectors");
                let source =
                    Source::open(&store, &vectors, ids.as_deref(), metadata.as_deref()).await?;
                read_all(source.batches_within(limits)).await
            });
            let all = all.unwrap_or_else(|error| panic!("{line}: {error}: {:?}", error.detail()));
            assert_eq!(bits(&all.vectors), bits(&expected), "{line}");
            assert_eq!((all.ids, all.metadata), (text(&ids), text(&metadata)), "{line}");
        }
        arrays += 1;
    }
    assert!(arrays > 200, "{arrays} arrays were written");
}

#[test]
fn zarr_python_and_xarray_open_an_export() {
    let runtime = storage::runtime("test", 2).expect("a runtime");
    for (rows, dimensions) in [(0, 4), (1, 1), (5000, 384), (9001, 2)] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = at(folder.path());
        let vectors: Vec<f32> = (0..rows * dimensions).map(|at| at as f32 / 8.0 - 100.0).collect();
        let ids = (0..rows).map(|row| format!("wört-{row}")).collect();
        let object = |row: usize| format!(r#"{{"row": {row}, "text": "{}"}}"#, "ä".repeat(row % 7));
        runtime.block_on(async {
            let info = ExportInfo {
                collection: "My.Docs ä".into(),
                distance_metric: "cosine".into(),
                dimensions,
            };
            let mut export = Export::create(&store, info).await.expect("begun");
            let metadata = (0..rows).map(object).collect();
            export.write(&vectors, ids, metadata).await.expect("written");
            export.finish().await.expect("finished");
        });
        let arguments = [
            folder.path().to_string_lossy().into_owned(),
            rows.to_string(),
            dimensions.to_string(),
        ];
        let printed = run("check_export.py", &arguments.each_ref().map(String::as_str));
        assert_eq!(printed.trim(), format!("{rows} rows"));
    }
}

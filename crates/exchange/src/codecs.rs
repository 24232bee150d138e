//! Codec names and options as writers write them, made into what zarrs knows; unknown ones named.

use serde_json::{Value, json};
use zarrs::array::Codec;
use zarrs::metadata::v2::MetadataV2;
use zarrs::metadata::v3::MetadataV3;

use crate::error::{ExchangeError, Result};
use crate::lz4;

/// What stands before the names of numcodecs' codecs in Zarr v3.
const NUMCODECS: &str = "numcodecs.";

/// Codecs of the Zarr v3 specification with the same format as numcodecs' of that name.
const SAME: [&str; 4] = ["blosc", "crc32c", "gzip", "zstd"];

/// Rewrites the codecs in an array's metadata, and checks that each is known.
///
/// # Errors
/// [`ExchangeError::Codec`] naming the first that is not.
pub(crate) fn prepare(array: &str, version: u8, document: &mut Value) -> Result<()> {
    lz4::register();
    match version {
        2 => {
            let compressor = document.get_mut("compressor").filter(|one| !one.is_null());
            if let Some(compressor) = compressor {
                prepare_v2(array, compressor)?;
            }
            for filter in document["filters"].as_array_mut().into_iter().flatten() {
                prepare_v2(array, filter)?;
            }
            Ok(())
        }
        _ => prepare_v3(array, &mut document["codecs"]),
    }
}

fn prepare_v2(array: &str, codec: &mut Value) -> Result<()> {
    let name = codec["id"].as_str().unwrap_or("?").to_owned();
    if name == "blosc" {
        // Some writers leave options out. A block says itself what was done to it.
        *codec = json!({"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 0, "blocksize": 0});
        return Ok(());
    }
    let known = serde_json::from_value::<MetadataV2>(codec.clone())
        .map_err(|error| error.to_string())
        .and_then(|metadata| Codec::from_metadata(&metadata).map_err(|error| error.to_string()));
    known.map(drop).map_err(|what| unknown(array, &name, what))
}

fn prepare_v3(array: &str, codecs: &mut Value) -> Result<()> {
    for codec in codecs.as_array_mut().into_iter().flatten() {
        if let Some(name) = codec.as_str() {
            *codec = json!({ "name": name });
        }
        let name = codec["name"].as_str().unwrap_or("?").to_owned();
        if name == "sharding_indexed" {
            let configuration = &mut codec["configuration"];
            prepare_v3(array, &mut configuration["codecs"])?;
            prepare_v3(array, &mut configuration["index_codecs"])?;
            continue;
        }
        let plain = name.strip_prefix(NUMCODECS).filter(|plain| SAME.contains(plain));
        match plain {
            Some("blosc") => {
                let configuration =
                    json!({"cname": "lz4", "clevel": 5, "shuffle": "noshuffle", "blocksize": 0});
                *codec = json!({"name": "blosc", "configuration": configuration});
            }
            Some(plain) => codec["name"] = plain.into(),
            None => {}
        }
        let configuration = codec.get_mut("configuration").and_then(Value::as_object_mut);
        if let Some(zstd) = configuration.filter(|_| plain.unwrap_or(&name) == "zstd") {
            // Some writers leave it out; a frame says itself whether it has one.
            zstd.entry("checksum").or_insert(false.into());
        }
        let known = serde_json::from_value::<MetadataV3>(codec.clone())
            .map_err(|error| error.to_string())
            .and_then(|metadata| match Codec::from_metadata(&metadata) {
                Err(error) if metadata.must_understand() => Err(error.to_string()),
                _ => Ok(()),
            });
        known.map_err(|what| unknown(array, &name, what))?;
    }
    Ok(())
}

fn unknown(array: &str, codec: &str, what: String) -> ExchangeError {
    ExchangeError::Codec { array: array.to_owned(), codec: codec.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(version: u8, mut document: Value) -> Option<String> {
        match prepare("a", version, &mut document) {
            Ok(()) => None,
            Err(ExchangeError::Codec { codec, .. }) => Some(codec),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_is_written_in_the_wild_is_known() {
        for id in ["zstd", "gzip", "zlib", "bz2"] {
            let document = json!({"compressor": {"id": id, "level": 1}, "filters": null});
            assert_eq!(refused(2, document), None);
        }
        for compressor in [
            json!({"id": "blosc", "cname": "zlib", "clevel": 9, "shuffle": -1}),
            json!({"id": "lz4", "acceleration": 1}),
            json!({"id": "zstd", "level": 0, "checksum": false}),
            Value::Null,
        ] {
            let filters = json!([{"id": "vlen-utf8"}, {"id": "adler32"}]);
            assert_eq!(refused(2, json!({"compressor": compressor, "filters": filters})), None);
        }
        for (name, configuration) in [
            ("numcodecs.zstd", json!({"level": 3, "checksum": true})),
            ("numcodecs.gzip", json!({"level": 3})),
            ("numcodecs.zlib", json!({"level": 3})),
            ("numcodecs.blosc", json!({"cname": "snappy", "clevel": 3, "shuffle": 1})),
            ("numcodecs.lz4", json!({"acceleration": 1})),
            ("zstd", json!({"level": 0})),
        ] {
            let codecs = json!([{"name": "bytes", "configuration": {"endian": "big"}},
                {"name": name, "configuration": configuration}, "crc32c"]);
            let sharding = json!({"chunk_shape": [2, 2], "codecs": codecs,
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]});
            let sharding = json!([{"name": "sharding_indexed", "configuration": sharding}]);
            assert_eq!(refused(3, json!({"codecs": codecs})), None, "{name}");
            assert_eq!(refused(3, json!({"codecs": sharding})), None, "{name}");
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        let document = json!({"compressor": {"id": "lzma", "preset": 1}});
        assert_eq!(refused(2, document).as_deref(), Some("lzma"));
        let filters = json!([{"id": "delta", "dtype": "<f4"}]);
        let document = json!({"compressor": null, "filters": filters});
        assert_eq!(refused(2, document).as_deref(), Some("delta"));
        let inner = json!({"name": "sharding_indexed",
            "configuration": {"codecs": [{"name": "numcodecs.lzma"}], "index_codecs": []}});
        assert_eq!(refused(3, json!({"codecs": [inner]})).as_deref(), Some("numcodecs.lzma"));
    }
}

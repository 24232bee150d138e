//! `config` of `create_collection`: options of the index, under their own names or under those of an
//! older design.

use std::fmt::Display;

use distance::Payload;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use crate::errors::raise;
use crate::shared::payload_cache::MAX_CHUNK;

/// Options by their own names.
const OPTIONS: [&str; 8] = [
    "m",
    "ef_construction",
    "bits",
    "payload",
    "compression",
    "compression_level",
    "chunk_rows",
    "shard_rows",
];
/// Names of the older design, with the options they mean.
const FORMER: [(&str, &str); 2] = [("zarr_chunk_size", "chunk_rows"), ("shard_size", "shard_rows")];

/// Options of an index, as `WITH (…)` takes them.
pub struct Config(Vec<(&'static str, String)>);

impl Config {
    /// Reads a JSON object. Values are checked by the index, except those under former names, which are
    /// made to fit: they were chosen for other limits.
    pub fn parse(text: &str, dimensions: usize) -> Self {
        let Ok(Value::Object(object)) = serde_json::from_str(text) else {
            raise(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "config must be a JSON object",
                "",
                "",
            )
        };
        let mut config = Self(Vec::new());
        for (key, value) in &object {
            match name_of(key) {
                Some(option) => config.set(key, option, word(key, value)),
                None => unknown(key),
            }
        }
        config.choose_compression(&object);
        config.fit(&object, dimensions);
        config
    }

    /// Names and values.
    pub fn options(self) -> Vec<(&'static str, String)> {
        self.0
    }

    fn get(&self, option: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == option).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, key: &str, option: &'static str, value: String) {
        if self.get(option).is_some() {
            raise(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("config gives \"{option}\" twice"),
                format!("\"{key}\" is another name of it."),
                "",
            );
        }
        self.0.push((option, value));
    }

    /// A level alone means the compression that has levels to speak of, and level 0 none at all.
    fn choose_compression(&mut self, object: &Map<String, Value>) {
        if object.contains_key("compression") {
            return;
        }
        match self.get("compression_level") {
            None => {}
            Some("0") => self.0.push(("compression", "none".into())),
            Some(_) => self.0.push(("compression", "zstd".into())),
        }
    }

    /// Makes sizes under former names fit, and says so.
    fn fit(&mut self, object: &Map<String, Value>, dimensions: usize) {
        let payload = self.get("payload").and_then(Payload::from_name).unwrap_or(Payload::Float32);
        let most = (MAX_CHUNK / (dimensions * payload.element_bytes())).max(1);
        let number =
            |config: &Self, option| config.get(option).and_then(|n| n.parse::<usize>().ok());
        if let Some(rows) = number(self, "chunk_rows").filter(|&rows| rows > most)
            && object.contains_key("zarr_chunk_size")
        {
            self.replace("chunk_rows", most);
            pgrx::notice!(
                "zarr_chunk_size is reduced from {rows} to {most} rows, the most that are fetched together"
            );
        }
        let chunk = number(self, "chunk_rows")
            .filter(|&rows| rows > 0)
            .unwrap_or_else(|| segment::default_chunk_rows(dimensions as u32, payload) as usize);
        if let Some(rows) = number(self, "shard_rows").filter(|&rows| rows % chunk != 0)
            && object.contains_key("shard_size")
        {
            let whole = rows.next_multiple_of(chunk);
            self.replace("shard_rows", whole);
            pgrx::notice!(
                "shard_size is raised from {rows} to {whole} rows, a multiple of the {chunk} that are fetched together"
            );
        }
    }

    fn replace(&mut self, option: &str, value: impl Display) {
        for (_, old) in self.0.iter_mut().filter(|(name, _)| *name == option) {
            *old = value.to_string();
        }
    }
}

fn name_of(key: &str) -> Option<&'static str> {
    let former = FORMER.into_iter().find(|(name, _)| *name == key).map(|(_, option)| option);
    former.or_else(|| OPTIONS.into_iter().find(|option| *option == key))
}

fn unknown(key: &str) -> ! {
    let former = FORMER.map(|(name, _)| name);
    raise(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("unknown key \"{key}\" in config"),
        "",
        format!("Known are {} and {}.", OPTIONS.join(", "), former.join(", ")),
    )
}

/// A number or a string.
fn word(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => raise(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("\"{key}\" in config is neither a number nor a string"),
            "",
            "",
        ),
    }
}

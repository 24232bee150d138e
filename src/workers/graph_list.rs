//! The file that tells which graphs were in memory: `s3vector.graphs` in the data directory.
//!
//! ```text
//!   s3vector graphs 1
//!   <index uuid> <segment uuid> <uses> <bytes>         one line a graph, the most used first
//!   end 1                                              the number of lines
//! ```
//!
//! No PostgreSQL call is made here.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;

use uuid::Uuid;

const FIRST_LINE: &str = "s3vector graphs 1";

/// Largest file that can be ours, in bytes: a line for every graph that can be in memory takes less.
const MAX_BYTES: u64 = 1 << 20;

/// A graph that was in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Folder of the index.
    pub index_uuid: Uuid,
    /// The segment.
    pub segment_uuid: Uuid,
    /// How often it was used.
    pub uses: u64,
    /// Bytes of shared memory it took.
    pub bytes: u64,
}

/// Reads the file; `None` when there is none.
///
/// # Errors
/// Why the file cannot be read, or what is wrong with it.
pub fn read(path: &Path) -> Result<Option<Vec<Remembered>>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| error.to_string())?;
    parse(&text).map(Some)
}

/// Replaces the file as a whole: after a crash it is the old one or the new one.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, graphs: &[Remembered]) -> io::Result<()> {
    let new = path.with_extension("graphs.new");
    let mut file = File::create(&new)?;
    file.write_all(print(graphs).as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn print(graphs: &[Remembered]) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for Remembered { index_uuid, segment_uuid, uses, bytes } in graphs {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{index_uuid} {segment_uuid} {uses} {bytes}");
    }
    let _ = writeln!(text, "end {}", graphs.len());
    text
}

/// Accepts nothing but what [`print`] prints.
fn parse(text: &str) -> Result<Vec<Remembered>, String> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(format!("it does not begin with \"{FIRST_LINE}\""));
    }
    let mut graphs = Vec::new();
    for (number, line) in (2..).zip(lines) {
        if line.starts_with("end ") {
            break;
        }
        graphs.push(parse_line(line).ok_or_else(|| format!("line {number} names no graph"))?);
    }
    // Also what is missing at the end, or written in another way.
    if print(&graphs) != text {
        return Err("it is incomplete or has been changed".to_owned());
    }
    Ok(graphs)
}

fn parse_line(line: &str) -> Option<Remembered> {
    let mut words = line.split(' ');
    Some(Remembered {
        index_uuid: words.next()?.parse().ok()?,
        segment_uuid: words.next()?.parse().ok()?,
        uses: words.next()?.parse().ok()?,
        bytes: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graphs(count: u128) -> Vec<Remembered> {
        let graph = |number: u128| Remembered {
            index_uuid: Uuid::from_u128(7 << 100 | number),
            segment_uuid: Uuid::from_u128(number << 64 | 9),
            uses: u64::MAX - number as u64,
            bytes: number as u64 * 12_345,
        };
        (0..count).map(graph).collect()
    }

    #[test]
    fn what_is_printed_is_read() {
        for count in [0, 1, 2, 1024] {
            let text = print(&graphs(count));
            assert_eq!(parse(&text), Ok(graphs(count)));
            assert!((text.len() as u64) < MAX_BYTES);
        }
        assert_eq!(print(&[]), "s3vector graphs 1\nend 0\n");
    }

    #[test]
    fn any_cut_is_noticed() {
        let text = print(&graphs(3));
        for length in 0..text.len() {
            assert!(parse(&text[..length]).is_err(), "{length} bytes: {:?}", &text[..length]);
        }
    }

    #[test]
    fn another_form_is_refused() {
        let text = print(&graphs(2));
        for (from, to) in [
            ("graphs 1", "graphs 2"),
            ("end 2", "end 3"),
            ("end 2", "end 02"),
            ("end 2\n", "end 2\nend 2\n"),
            ("end 2\n", ""),
            ("\n", "\r\n"),
            (" 12345\n", " 12345 0\n"),
            (" 12345\n", " -12345\n"),
            (" 12345\n", " 12345x\n"),
            (" 12345\n", " 99999999999999999999\n"),
            (" 12345\n", "\n"),
            ("-", ""),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from:?}");
            assert!(parse(&changed).is_err(), "{changed}");
        }
        assert!(parse("").is_err() && parse("\0\0\0\0").is_err());
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let name = format!("s3vector-graph-list-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("s3vector.graphs");
        assert_eq!(read(&path), Ok(None));
        for count in [5, 2] {
            write(&path, &graphs(count)).expect("written");
            assert_eq!(read(&path), Ok(Some(graphs(count))));
        }
        fs::write(&path, [0xFF; 100]).expect("damaged");
        assert!(read(&path).is_err());
        fs::write(&path, "s3vector graphs 1\n".repeat(1 << 17)).expect("damaged");
        assert!(read(&path).is_err());
        let left: Vec<_> = fs::read_dir(&folder).expect("listed").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        fs::remove_dir_all(folder).expect("removed");
    }
}

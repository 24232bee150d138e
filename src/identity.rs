//! Which data directory this server works in, told apart from every copy of it.
//!
//! A random token lies in a file of the data directory that base backups leave out:
//!
//! ```text
//!   s3vector token 1
//!   <token>
//!   <inode of the data directory> <inode of this file> <when this file was made, or ->
//! ```
//!
//! Who copies files can copy this one, but not its inode and the time at which it was made: then it is
//! another directory's, and a token of its own takes its place. The device is not compared: a
//! volume that is attached again can get another number, and one on another machine the same.

use std::ffi::{CStr, OsStr};
use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use pgrx::pg_sys;
use uuid::Uuid;

use crate::errors::{Failure, FailureKind};
use crate::random::random_uuid;

/// The file, below the data directory. Extensions may keep files in that folder; PostgreSQL has used
/// it no more since release 15, and lets lie what is there when it starts.
pub const FILE: &str = "pg_stat_tmp/s3vector.token";

const FIRST_LINE: &str = "s3vector token 1";

/// Largest file that can be ours, in bytes.
const MAX_BYTES: u64 = 4096;

/// What tells a data directory from others.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Its token.
    pub token: Uuid,
    /// Its inode number.
    pub directory: u64,
}

/// Known to the postmaster and to all processes that it starts; else why it is not.
static IDENTITY: OnceLock<Result<Identity, String>> = OnceLock::new();

/// Reads the token, or writes one. Called by the postmaster when the server starts, which holds the
/// data directory's lock.
pub fn learn() {
    // SAFETY: DataDir is set before any library is loaded and never changes.
    let directory = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    let directory = Path::new(OsStr::from_bytes(directory.to_bytes()));
    let identity = IDENTITY.get_or_init(|| obtain(directory).map_err(|error| error.to_string()));
    if let Err(why) = identity {
        pgrx::warning!("s3vector: could not read or write the file \"{FILE}\": {why}");
    }
}

/// Which data directory this is.
///
/// # Errors
/// When the token could be neither read nor written.
pub fn get() -> Result<Identity, Failure> {
    match IDENTITY.get() {
        Some(Ok(identity)) => Ok(*identity),
        other => {
            let why = other.and_then(|known| known.as_ref().err());
            let why = why.map_or("the server has not tried to", String::as_str);
            Err(Failure::new(
                FailureKind::Io,
                format!("could not read or write the file \"{FILE}\" when the server started"),
            )
            .detail(format!(
                "It tells this data directory from its copies; without it nothing is written to storage or deleted there: {why}."
            ))
            .hint("Make the file and its folder accessible to the server, and restart it."))
        }
    }
}

/// Reads the token of a data directory; writes a new one when there is none, or only another's.
fn obtain(directory: &Path) -> io::Result<Identity> {
    let path = directory.join(FILE);
    let inode = fs::metadata(directory)?.ino();
    let found = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        file => Some(read(file?, inode)?),
    };
    let token = match found {
        Some(Found::Ours(token)) => token,
        other => {
            let token = random_uuid();
            write(&path, token, inode)?;
            let why = match other {
                None => "there was none".to_owned(),
                Some(Found::Copied) => "the one found belongs to another data directory, of which \
                    this is a copy"
                    .to_owned(),
                Some(_) => "the one found is damaged".to_owned(),
            };
            pgrx::log!("s3vector: this data directory gets a new token: {why}");
            token
        }
    };
    Ok(Identity { token, directory: inode })
}

/// What a file of that name holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The token of the directory that it lies in.
    Ours(Uuid),
    /// That of another one.
    Copied,
    /// Nothing that this library writes.
    Damaged,
}

/// Where a file lies, as no copy of it can.
#[derive(Clone, Copy, Debug)]
struct Place {
    directory: u64,
    file: u64,
    /// Nanoseconds since 1970; `None` where the file system does not tell.
    made: Option<u128>,
}

impl Place {
    fn of(directory: u64, file: &Metadata) -> Self {
        let made = file.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let made = made.map(|time| time.as_nanos()).filter(|&nanoseconds| nanoseconds != 0);
        Self { directory, file: file.ino(), made }
    }

    fn is(&self, other: &Self) -> bool {
        let made = self.made.zip(other.made).is_none_or(|(one, other)| one == other);
        (self.directory, self.file) == (other.directory, other.file) && made
    }
}

fn read(file: File, directory: u64) -> io::Result<Found> {
    let here = Place::of(directory, &file.metadata()?);
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(match std::str::from_utf8(&bytes).ok().and_then(parse) {
        Some((token, place)) if place.is(&here) => Found::Ours(token),
        Some(_) => Found::Copied,
        None => Found::Damaged,
    })
}

/// Puts a new file in the place of whatever is there: after a crash it is there whole, or not at all.
fn write(path: &Path, token: Uuid, directory: u64) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // A copy may have been made without the folder.
    fs::create_dir_all(folder)?;
    let new = path.with_extension("token.new");
    let mut file = File::create(&new)?;
    let place = Place::of(directory, &file.metadata()?);
    file.write_all(print(token, place).as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

fn print(token: Uuid, place: Place) -> String {
    let mut text = format!("{FIRST_LINE}\n{token}\n{} {} ", place.directory, place.file);
    // Writing to a string does not fail.
    let _ = match place.made {
        Some(made) => writeln!(text, "{made}"),
        None => writeln!(text, "-"),
    };
    text
}

/// Accepts nothing but what [`print`] prints.
fn parse(text: &str) -> Option<(Uuid, Place)> {
    let mut lines = text.lines().skip(1);
    let token: Uuid = lines.next()?.parse().ok()?;
    let mut words = lines.next()?.split(' ');
    let (directory, file) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let made = match words.next()? {
        "-" => None,
        made => Some(made.parse().ok()?),
    };
    let place = Place { directory, file, made };
    (print(token, place) == text && !token.is_nil()).then_some((token, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Uuid = Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef);
    const PLACE: Place = Place { directory: 2, file: 77, made: Some(1_700_000_000_123_456_789) };

    #[test]
    fn what_is_printed_is_read() {
        for place in [PLACE, Place { made: None, ..PLACE }] {
            let (token, read) = parse(&print(TOKEN, place)).expect("it is whole");
            assert_eq!(token, TOKEN);
            assert!(read.is(&place) && read.made == place.made);
        }
    }

    #[test]
    fn any_cut_or_change_is_noticed() {
        let text = print(TOKEN, PLACE);
        for length in 0..text.len() {
            assert!(parse(&text[..length]).is_none(), "{length} bytes");
        }
        let nil = Uuid::nil().to_string();
        for (from, to) in [
            ("token 1", "token 2"),
            ("2 77", "2  77"),
            ("2 77", "02 77"),
            ("789\n", "789 \n"),
            ("789\n", "789\n\n"),
            ("\n", "\r\n"),
            (TOKEN.to_string().as_str(), nil.as_str()),
            ("1700000000123456789", "x"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from:?}");
            assert!(parse(&changed).is_none(), "{changed}");
        }
    }

    #[test]
    fn a_place_is_the_same_when_nothing_that_is_known_differs() {
        assert!(PLACE.is(&PLACE));
        assert!(PLACE.is(&Place { made: None, ..PLACE }));
        assert!(!PLACE.is(&Place { directory: 3, ..PLACE }));
        assert!(!PLACE.is(&Place { file: 78, ..PLACE }));
        assert!(!PLACE.is(&Place { made: Some(1), ..PLACE }));
    }

    #[test]
    fn a_copied_file_is_not_ours() {
        let name = format!("s3vector-token-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("made/s3vector.token");
        let found = |directory| read(File::open(&path).expect("a file"), directory).expect("read");
        for token in [Uuid::from_u128(1 << 100), TOKEN] {
            write(&path, token, 2).expect("written");
            assert_eq!(found(2), Found::Ours(token));
            assert_eq!(found(3), Found::Copied);
        }
        let copy = folder.join("made/copy");
        fs::copy(&path, &copy).expect("copied");
        fs::rename(&copy, &path).expect("put in its place");
        assert_eq!(found(2), Found::Copied);
        fs::write(&path, [0xFF; 100]).expect("damaged");
        assert_eq!(found(2), Found::Damaged);
        let left: Vec<_> = fs::read_dir(folder.join("made")).expect("listed").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        fs::remove_dir_all(folder).expect("removed");
    }
}

//! Where the programs are that tests run. The Makefile tells by environment variables.

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, geteuid};

fn location(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable)
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{variable} is not set: run the tests with `make test`, or after `eval \"$(scripts/env.sh)\"`"));
    assert!(
        path.exists(),
        "{variable} names {}, which does not exist: run `make setup`",
        path.display()
    );
    path
}

/// A program of PostgreSQL, for example `postgres` or `initdb`.
pub fn postgres(program: &str) -> PathBuf {
    location("S3VECTOR_PG_CONFIG").with_file_name(program)
}

/// The S3 server.
pub fn garage() -> PathBuf {
    location("S3VECTOR_GARAGE")
}

/// The Redis server.
pub fn redis_server() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("redis-server"))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("redis-server is not on the PATH: run scripts/setup.sh redis"))
}

/// A Python with psycopg, numpy and zarr.
pub fn python() -> PathBuf {
    location("S3VECTOR_PYTHON")
}

/// Node.js.
pub fn node() -> PathBuf {
    location("S3VECTOR_NODE")
}

/// The packages that scripts for Node.js load.
pub fn node_modules() -> PathBuf {
    location("S3VECTOR_NODE_MODULES")
}

/// A browser.
pub fn chromium() -> PathBuf {
    location("S3VECTOR_CHROMIUM")
}

/// A script in this crate's `clients` folder.
pub fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// A file of the project's examples.
pub fn example(name: &str) -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    project.expect("this crate lies in the project").join("examples").join(name)
}

/// A script in this crate's `python` folder.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

/// The folder for files of servers: short, because the path of a Unix socket is limited to 107
/// bytes. `make test` names one and removes it at the end.
pub fn directory() -> PathBuf {
    std::env::var_os("S3VECTOR_TEST_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
}

/// Whether tests may mount file systems.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Who must run PostgreSQL, which refuses to run as root: the user `postgres` when we are root,
/// else nobody but ourselves (`None`).
pub fn server_user() -> Option<(Uid, Gid)> {
    is_root().then(|| {
        let user = User::from_name("postgres")
            .expect("the user database is readable")
            .expect("the system user postgres exists: run `make setup`");
        (user.uid, user.gid)
    })
}

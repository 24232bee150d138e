//! Garage: a real S3 server for a test, on loopback.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::{Server, free_port, tail};
use crate::python;
use crate::tools;
use crate::wait::wait_for;

/// The bucket that exists.
pub const BUCKET: &str = "vectors";
/// The key that may read and write it.
pub const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
/// The secret of [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const REGION: &str = "garage";

/// An S3 server with one bucket and one key, stopped and removed when dropped.
pub struct Garage {
    folder: TempDir,
    port: u16,
    server: Option<Server>,
}

impl Garage {
    /// Starts an empty server.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("g")
            .tempdir_in(tools::directory())
            .expect("a folder for Garage");
        let mut garage = Self { folder, port: free_port(), server: None };
        garage.start_server();
        garage
    }

    /// The endpoint URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Settings that make a cluster store vectors here.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("s3vector.storage_url", format!("s3://{BUCKET}/test")),
            ("s3vector.s3_endpoint", self.endpoint()),
            ("s3vector.s3_region", REGION.to_owned()),
            ("s3vector.s3_path_style", "on".to_owned()),
            ("s3vector.s3_access_key_id", ACCESS_KEY.to_owned()),
            ("s3vector.s3_secret_access_key", SECRET_KEY.to_owned()),
        ]
    }

    /// Key and size of every object in the bucket.
    pub fn objects(&self) -> BTreeMap<String, u64> {
        let printed = self.ask(&["list"]);
        let object = |line: &str| {
            let (key, size) = line.rsplit_once(' ').expect("a key and a size");
            (key.to_owned(), size.parse().expect("a size"))
        };
        printed.lines().map(object).collect()
    }

    /// Writes an object that is none of the extension's.
    pub fn put(&self, key: &str, text: &str) {
        self.ask(&["put", key, text]);
    }

    /// The URL of a place in the bucket.
    pub fn url_of(&self, place: &str) -> String {
        format!("s3://{BUCKET}/{place}")
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let endpoint = self.endpoint();
        let bucket = [&endpoint, REGION, BUCKET, ACCESS_KEY, SECRET_KEY];
        python::run("bucket.py", &[&bucket, arguments].concat())
    }

    /// Stops the server; its objects stay.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.stop(Signal::SIGTERM);
        }
    }

    /// Kills the server; its objects stay.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// Starts a stopped server at the same address.
    pub fn start_server(&mut self) {
        let log = self.log();
        let configuration = self.folder.path().join("garage.toml");
        let folder = self.folder.path().display();
        let (api, rpc) = (self.port, free_port());
        fs::write(
            &configuration,
            format!(
                "metadata_dir = \"{folder}/meta\"\n\
                 data_dir = \"{folder}/blocks\"\n\
                 db_engine = \"lmdb\"\n\
                 replication_factor = 1\n\
                 rpc_bind_addr = \"127.0.0.1:{rpc}\"\n\
                 rpc_public_addr = \"127.0.0.1:{rpc}\"\n\
                 [s3_api]\n\
                 api_bind_addr = \"127.0.0.1:{api}\"\n\
                 s3_region = \"{REGION}\"\n"
            ),
        )
        .expect("garage.toml is written");
        let server = Server::start(
            Command::new(tools::garage())
                .arg("-c")
                .arg(&configuration)
                .args(["server", "--single-node", "--default-bucket"])
                .env("GARAGE_RPC_SECRET", SECRET_KEY)
                .env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY)
                .env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY)
                .env("GARAGE_DEFAULT_BUCKET", BUCKET)
                .env("RUST_LOG", "warn"),
            &log,
        );
        self.server = Some(server);
        // Garage makes the key and the bucket before it listens.
        wait_for("Garage to listen", || {
            let server = self.server.as_mut().expect("just started");
            assert!(server.is_running(), "Garage ended:\n{}", tail(&log, 20));
            TcpStream::connect((Ipv4Addr::LOCALHOST, api)).ok()
        });
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("garage.log")
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the end of Garage's log ----\n{}\n----", tail(&self.log(), 20));
        }
    }
}

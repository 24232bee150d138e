//! Programs in Python and JavaScript that use s3vector as its users do. They say what is wrong by
//! failing.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::Cluster;
use crate::tools;

/// How libpq's clients name the database of a cluster.
pub fn conninfo(cluster: &Cluster) -> String {
    format!("host={} user=postgres dbname=postgres", cluster.socket().display())
}

/// A command that runs a Python program, warnings being errors.
pub fn python(program: &Path) -> Command {
    let mut command = Command::new(tools::python());
    command.args(["-W", "error", "-B"]).arg(program);
    command
}

/// A command that runs a script of this crate's `clients` folder with Node.js.
pub fn node(script: &str) -> Command {
    let mut command = Command::new(tools::node());
    command
        .args(["--trace-warnings".as_ref(), tools::client(script).as_os_str()])
        .env("S3VECTOR_NODE_MODULES", tools::node_modules());
    command
}

/// Runs a command to its end with more arguments. Returns what it printed.
///
/// # Panics
///
/// When it fails or warns; its output says why.
#[track_caller]
pub fn run(command: &mut Command, arguments: &[&dyn AsRef<OsStr>]) -> String {
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed:\n{printed}{errors}");
    assert!(errors.is_empty(), "{command:?} warned:\n{errors}");
    printed.into_owned()
}

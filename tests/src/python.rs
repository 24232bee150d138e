//! Checks that need zarr-python.

use std::process::Command;

use crate::tools;

/// Runs a script of this crate's `python` folder with warnings as errors. Returns what it printed.
///
/// # Panics
///
/// When it fails; its output says why.
#[track_caller]
pub fn run(script: &str, arguments: &[&str]) -> String {
    let output = Command::new(tools::python())
        .args(["-W", "error", "-B"])
        .arg(tools::script(script))
        .args(arguments)
        .output()
        .expect("python starts");
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} failed:\n{printed}{errors}");
    assert!(errors.is_empty(), "{script} warned:\n{errors}");
    printed.into_owned()
}

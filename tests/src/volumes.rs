//! File systems of a test's own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

use crate::process::give_to_server_user;
use crate::tools;

/// Runs `test` with two empty file systems in memory, on which the same steps give files the same
/// inode numbers. Only `test` and the programs that it starts see them, so that nothing is left of
/// them however it ends.
///
/// Where mounting is not permitted the test is not run, and its output says so.
pub fn with_two_volumes(test: impl FnOnce(&[PathBuf; 2]) + Send) {
    let folder = tempfile::tempdir_in(tools::directory()).expect("a folder");
    let places = ["a", "b"].map(|name| folder.path().join(name));
    for place in &places {
        fs::create_dir(place).expect("a folder to mount on");
    }
    // What is mounted belongs to a thread, and ends with it and its children.
    let outcome = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if !(tools::is_root() && mount(&places)) {
                println!("skipped: needs root and the right to mount file systems");
                return;
            }
            test(&places);
        });
        thread.join()
    });
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure);
    }
}

/// Mounts a file system in memory on each folder, for this thread alone. Whether it may.
fn mount(places: &[PathBuf]) -> bool {
    let run = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && run(Command::new("mount").args(["--make-rprivate", "/"]))
        && places.iter().all(|place| {
            let mounted = run(Command::new("mount")
                .args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs"])
                .arg(place));
            if mounted {
                give_to_server_user(place);
            }
            mounted
        })
}

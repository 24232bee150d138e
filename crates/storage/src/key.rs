//! Names of objects: what is allowed, so that no key ever leaves the store's root.

use crate::{ErrorKind, StorageError};

/// Longest key in bytes: S3's limit less room for a prefix in the store's URL.
pub const MAX_KEY_BYTES: usize = 900;

/// Longest part of a key in bytes: what file systems allow less room for a temporary suffix.
const MAX_PART_BYTES: usize = 200;

/// Checks that `key` is a relative path of non-empty parts separated by `/`.
///
/// # Errors
/// [`ErrorKind::Config`] if it is empty, absolute or too long, or a part is empty, `.` or `..`,
/// or holds a backslash or a control character.
pub fn validate_key(key: &str, url: &str) -> Result<(), StorageError> {
    let refuse = |why: &str| {
        Err(StorageError::new(
            ErrorKind::Config,
            "name an object in",
            url,
            format!("the object name {key:?} {why}"),
        ))
    };
    if key.is_empty() {
        return refuse("is empty");
    }
    if key.len() > MAX_KEY_BYTES {
        return refuse("is too long");
    }
    for part in key.split('/') {
        if part.is_empty() {
            return refuse("has an empty part");
        }
        if part == "." || part == ".." {
            return refuse("has a relative part");
        }
        if part.len() > MAX_PART_BYTES {
            return refuse("has a part that is too long");
        }
        if part.chars().any(|c| c.is_control() || c == '\\') {
            return refuse("has a forbidden character");
        }
    }
    Ok(())
}

/// Checks a prefix to list: empty, a key, or a key and a final `/`.
///
/// # Errors
/// As [`validate_key`].
pub fn validate_prefix(prefix: &str, url: &str) -> Result<(), StorageError> {
    match prefix.strip_suffix('/').unwrap_or(prefix) {
        "" if prefix.is_empty() => Ok(()),
        key => validate_key(key, url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_and_bad_keys() {
        for key in ["a", "a/b.c/d", "9f-1/zarr.json", "ä/ö", ".hidden/x"] {
            assert!(validate_key(key, "file:///x").is_ok(), "{key}");
        }
        let long = "x/".repeat(600) + "x";
        for key in
            ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\0b", "a\nb", &long]
        {
            let error = validate_key(key, "file:///x").expect_err(key);
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn prefixes_may_be_empty_or_end_with_a_slash() {
        for prefix in ["", "a", "a/", "a/b/"] {
            assert!(validate_prefix(prefix, "").is_ok(), "{prefix}");
        }
        for prefix in ["/", "//", "a//", "../"] {
            assert!(validate_prefix(prefix, "").is_err(), "{prefix}");
        }
    }

    proptest! {
        #[test]
        fn a_valid_key_stays_below_its_root(key in "[a./\\\\]{0,12}") {
            if validate_key(&key, "").is_ok() {
                let path = std::path::Path::new("/store/dir").join(&key);
                let plain = path.components().all(|c| matches!(
                    c, std::path::Component::Normal(_) | std::path::Component::RootDir));
                prop_assert!(plain && path.starts_with("/store/dir"));
            }
        }
    }
}

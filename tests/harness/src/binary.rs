//! Which binary the tests start.

use std::path::{Path, PathBuf};

/// The variable that names the binary under test, such as a release build.
const VARIABLE: &str = "COUNTERSIGN_TEST_BINARY";

/// The binary that `COUNTERSIGN_TEST_BINARY` names, or `built`, the one that Cargo has built for the tests.
///
/// # Panics
///
/// If the variable is set and does not name a file by its absolute path: the tests of each package run in a folder
/// of its own.
pub fn binary_under_test(built: impl AsRef<Path>) -> PathBuf {
    let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) else {
        return built.as_ref().to_owned();
    };
    let named = PathBuf::from(named);
    assert!(
        named.is_absolute() && named.is_file(),
        "{VARIABLE}: expected the absolute path of a binary: {named:?}"
    );
    named
}

//! The binary under test.

use std::path::{Path, PathBuf};

/// Environment variable with the path of the binary under test, such as a release build.
const BINARY_VARIABLE: &str = "COUNTERSIGN_TEST_BINARY";

/// Returns the binary that `COUNTERSIGN_TEST_BINARY` names, else `built`, which Cargo has built for the tests.
///
/// # Panics
///
/// If the variable is set but is not the absolute path of a file: each package runs its tests in a folder of
/// its own.
pub fn binary_under_test(built: impl AsRef<Path>) -> PathBuf {
    let Some(named) = std::env::var_os(BINARY_VARIABLE).filter(|named| !named.is_empty()) else {
        return built.as_ref().to_owned();
    };
    let named = PathBuf::from(named);
    assert!(
        named.is_absolute() && named.is_file(),
        "{BINARY_VARIABLE}: expected the absolute path of a binary: {named:?}"
    );
    named
}

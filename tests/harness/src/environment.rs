//! What a child process must not inherit.

use std::process::Command;

/// Hides from the child every variable of ours whose name begins with `prefix`: whatever the developer
/// has set for their own use must not steer a test.
pub(crate) fn forget_environment(command: &mut Command, prefix: &str) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(prefix) {
            command.env_remove(name);
        }
    }
}

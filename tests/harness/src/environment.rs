//! The environment of a child process.

use std::process::Command;

/// Removes every `COUNTERSIGN_*` variable of the test process from the environment of `command`, so that a
/// developer's own settings do not change the outcome of a test.
pub fn remove_server_variables(command: &mut Command) {
    remove_variables(command, |name| name.starts_with("COUNTERSIGN_"));
}

/// Removes every inherited variable whose name satisfies `is_removed` from the environment of `command`.
pub fn remove_variables(command: &mut Command, is_removed: impl Fn(&str) -> bool) {
    for (name, _) in std::env::vars_os() {
        if is_removed(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
}

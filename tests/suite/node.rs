//! Twilio's Node library against the real server.

use std::path::Path;
use std::process::Command;

use harness::remove_variables;
use serde_json::Value;

use crate::python::{every_operation, skip};

/// The packages that the scripts need; see `tests/sdks/node`.
const PACKAGE: &str = include_str!("../sdks/node/package.json");

const SETUP_INSTRUCTIONS: &str = "copy tests/sdks/node/package*.json to a folder, run npm ci in it, \
                      then set COUNTERSIGN_TEST_NODE to the path of the folder";

#[test]
fn every_operation_works_with_the_twilio_node_library() {
    let Some(node) = node_or_skip("node::every_operation_works_with_the_twilio_node_library") else { return };
    every_operation(node, "node/operations.js");
}

/// Returns a command for Node with the required package versions. Returns `None` and prints a notice if it is
/// missing.
pub(crate) fn node_or_skip(test: &str) -> Option<Command> {
    match node() {
        Ok(node) => Some(node),
        Err(why) => skip(test, &format!("{why} ({SETUP_INSTRUCTIONS})")),
    }
}

fn node() -> Result<Command, String> {
    let folder = std::env::var_os("COUNTERSIGN_TEST_NODE").ok_or("COUNTERSIGN_TEST_NODE is not set")?;
    let package: Value = serde_json::from_str(PACKAGE).unwrap();
    for (name, required) in package["dependencies"].as_object().unwrap() {
        // Not every package lets `require` find its package.json.
        let file = Path::new(&folder).join("node_modules").join(name).join("package.json");
        let script = format!("console.log(JSON.parse(require('fs').readFileSync({file:?})).version)");
        let output = command(Path::new(&folder)).args(["-e", &script]).output();
        let output = output.map_err(|error| format!("node: {error}"))?;
        let found = String::from_utf8_lossy(&output.stdout);
        if Some(found.trim()) != required.as_str() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} lacks {name} {required}: {found}{said}", folder.display()));
        }
    }
    Ok(command(Path::new(&folder)))
}

/// Returns a command for Node with the modules in `folder`, without inherited variables that would change its
/// behavior.
fn command(folder: &Path) -> Command {
    let mut command = Command::new("node");
    remove_variables(&mut command, |name| {
        let name = name.to_uppercase();
        name.starts_with("TWILIO_") || name.starts_with("NODE_") || name.ends_with("_PROXY")
    });
    command.env("NODE_PATH", folder.join("node_modules"));
    command
}

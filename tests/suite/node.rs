//! Twilio's own Node library against the real server.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::python::{every_operation, skip};

/// What the scripts need; see `tests/sdks/node`.
const PACKAGE: &str = include_str!("../sdks/node/package.json");

const SET_UP: &str = "copy tests/sdks/node/package*.json to a folder, run npm ci in it, \
                      then set COUNTERSIGN_TEST_NODE to the path of the folder";

#[test]
fn helper_library() {
    let Some(node) = node_or_skip("node::helper_library") else { return };
    every_operation(node, "node/operations.js");
}

/// Node with just the versions that we require; `None`, said aloud, where there is none.
pub(crate) fn node_or_skip(test: &str) -> Option<Command> {
    match node() {
        Ok(node) => Some(node),
        Err(why) => skip(test, &format!("{why} ({SET_UP})")),
    }
}

fn node() -> Result<Command, String> {
    let folder = std::env::var_os("COUNTERSIGN_TEST_NODE").ok_or("COUNTERSIGN_TEST_NODE is not set")?;
    let package: Value = serde_json::from_str(PACKAGE).unwrap();
    for (name, required) in package["dependencies"].as_object().unwrap() {
        let script = format!("console.log(require('{name}/package.json').version)");
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

/// Node with the folder's modules, and nothing in its environment that would lead it elsewhere.
fn command(folder: &Path) -> Command {
    let mut command = Command::new("node");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_uppercase();
        if text.starts_with("TWILIO_") || text.starts_with("NODE_") || text.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command.env("NODE_PATH", folder.join("node_modules"));
    command
}

//! Twilio's own Node library, for what only a receiver does with it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::python::skip;

/// What the scripts need; see `tests/sdks/node`.
const PACKAGE: &str = include_str!("../sdks/node/package.json");

const SET_UP: &str = "copy tests/sdks/node/package*.json to a folder, run npm ci in it, \
                      then set COUNTERSIGN_TEST_NODE to the path of the folder";

/// Node with just the version of the library that we require; `None`, said aloud, where there is none.
pub(crate) fn node_or_skip(test: &str) -> Option<Command> {
    match node() {
        Ok(node) => Some(node),
        Err(why) => skip(test, &format!("{why} ({SET_UP})")),
    }
}

fn node() -> Result<Command, String> {
    let folder = std::env::var_os("COUNTERSIGN_TEST_NODE").ok_or("COUNTERSIGN_TEST_NODE is not set")?;
    let package: Value = serde_json::from_str(PACKAGE).unwrap();
    let required = package["dependencies"]["twilio"].as_str().unwrap();
    let script = "console.log(require('twilio/package.json').version)";
    let output = command(Path::new(&folder)).args(["-e", script]).output();
    let output = output.map_err(|error| format!("node: {error}"))?;
    let found = String::from_utf8_lossy(&output.stdout);
    if found.trim() == required {
        Ok(command(Path::new(&folder)))
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{} lacks twilio {required}: {found}{said}", folder.display()))
    }
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

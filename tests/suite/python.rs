//! Twilio's own Python library against the real server.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::webhooks::ALLOWED;
use crate::world::World;

/// What the script needs; see `tests/sdks/python`.
const REQUIREMENTS: &str = include_str!("../sdks/python/requirements.txt");

const SET_UP: &str = "python3 -m venv .venv && .venv/bin/pip install -r tests/sdks/python/requirements.txt, \
                      then set COUNTERSIGN_TEST_PYTHON to the path of .venv/bin/python";

#[test]
fn helper_library() {
    let Some(python) = python_or_skip("python::helper_library") else { return };
    every_operation(python, "python/operations.py");
}

/// Runs a script that makes every call that is served, on a server of its own.
pub(crate) fn every_operation(mut interpreter: Command, script: &str) {
    let world = World::sqlite_with(ALLOWED);
    let key = world.command(&["api-key", "create", world.server.account_sid()]);
    let key: Vec<_> = key.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
    let output = interpreter
        .arg(sdks(script))
        .env("BASE_URL", world.server.url())
        .env("ACCOUNT_SID", world.server.account_sid())
        .env("AUTH_TOKEN", world.server.auth_token())
        .env("API_KEY_SID", key[0])
        .env("API_KEY_SECRET", key[1])
        .output()
        .unwrap();
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success() && stdout.ends_with("all operations work\n"), "{stdout}{stderr}");
}

/// Python with the libraries that we require; `None`, said aloud, where there is none.
pub(crate) fn python_or_skip(test: &str) -> Option<Command> {
    match python() {
        Ok(python) => Some(command(&python)),
        Err(why) => skip(test, &format!("{why} ({SET_UP})")),
    }
}

/// Says aloud that a test is skipped, and why. Where everything should be there, that is a failure.
pub(crate) fn skip<T>(test: &str, why: &str) -> Option<T> {
    let notice = format!("SKIPPED {test}: {why}");
    assert!(std::env::var_os("CI").is_none(), "{notice}");
    // `eprintln!` would be captured, and shown only if the test failed.
    let _ = writeln!(io::stderr(), "{notice}");
    None
}

/// The path of a script.
pub(crate) fn sdks(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdks").join(path)
}

/// The interpreter that has just the versions that we require, or why there is none.
fn python() -> Result<PathBuf, String> {
    let python = std::env::var_os("COUNTERSIGN_TEST_PYTHON").map(PathBuf::from);
    let python = python.ok_or("COUNTERSIGN_TEST_PYTHON is not set")?;
    for requirement in REQUIREMENTS.lines().filter(|line| !line.starts_with('#')) {
        let (package, version) = requirement.split_once("==").unwrap();
        let script = format!("import {package}; print({package}.__version__)");
        let output = command(&python).args(["-c", &script]).output();
        let output = output.map_err(|error| format!("{}: {error}", python.display()))?;
        let found = String::from_utf8_lossy(&output.stdout);
        if found.trim() != version {
            let said = String::from_utf8_lossy(&output.stderr);
            let found = found.lines().chain(said.lines().rev()).next().unwrap_or_default();
            return Err(format!("{} lacks {requirement}: {found}", python.display()));
        }
    }
    Ok(python)
}

/// Python with nothing in its environment that would lead it elsewhere.
fn command(python: &Path) -> Command {
    let mut command = Command::new(python);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_uppercase();
        if text.starts_with("TWILIO_") || text.ends_with("_PROXY") || text.starts_with("PYTHON") {
            command.env_remove(name);
        }
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1");
    command
}

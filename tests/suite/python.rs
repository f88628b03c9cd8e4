//! Twilio's Python library against the real server.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::remove_variables;

use crate::webhooks::LOOPBACK_ARGUMENTS;
use crate::world::World;

/// The packages that the script needs; see `tests/sdks/python`.
const REQUIREMENTS: &str = include_str!("../sdks/python/requirements.txt");

const SETUP_INSTRUCTIONS: &str = "python3 -m venv .venv && .venv/bin/pip install -r tests/sdks/python/requirements.txt, \
                      then set COUNTERSIGN_TEST_PYTHON to the path of .venv/bin/python";

#[test]
fn every_operation_works_with_the_twilio_python_library() {
    let Some(python) = python_or_skip("python::every_operation_works_with_the_twilio_python_library") else {
        return;
    };
    every_operation(python, "python/operations.py");
}

/// Runs a script that calls every served operation, on its own server.
pub(crate) fn every_operation(mut interpreter: Command, script: &str) {
    let world = World::sqlite_with(LOOPBACK_ARGUMENTS);
    let key = world.command(&["api-key", "create", world.server.account_sid()]);
    let key: Vec<_> = key.lines().map(|line| line.split_whitespace().last().unwrap()).collect();
    // No endpoint creates a template.
    let text = ["--channels", "sms,voice", "--locale", "en", "--text", "{{code}} logs you in"];
    world.command(&[&["template", "create", "--name", "Login"], &text[..]].concat());
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

/// Returns a command for Python with the required library versions. Returns `None` and prints a notice if there
/// is none.
pub(crate) fn python_or_skip(test: &str) -> Option<Command> {
    match python() {
        Ok(python) => Some(command(&python)),
        Err(why) => skip(test, &format!("{why} ({SETUP_INSTRUCTIONS})")),
    }
}

/// Prints that a test is skipped, and why. With `CI` set it fails instead.
pub(crate) fn skip<T>(test: &str, why: &str) -> Option<T> {
    let notice = format!("SKIPPED {test}: {why}");
    assert!(std::env::var_os("CI").is_none(), "{notice}");
    // The test runner captures `eprintln!`, and would show the notice only for a failed test.
    let _ = writeln!(io::stderr(), "{notice}");
    None
}

/// Returns the absolute path of `path` in `tests/sdks`.
pub(crate) fn sdks(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdks").join(path)
}

/// Returns the interpreter with exactly the required versions, or the reason why there is none.
fn python() -> Result<PathBuf, String> {
    let python = std::env::var_os("COUNTERSIGN_TEST_PYTHON").map(PathBuf::from);
    let python = python.ok_or("COUNTERSIGN_TEST_PYTHON is not set")?;
    for requirement in REQUIREMENTS.lines().filter(|line| !line.starts_with('#')) {
        let (package, version) = requirement.split_once("==").unwrap();
        let script = format!("from importlib import metadata; print(metadata.version('{package}'))");
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

/// Returns a command for the interpreter `python`, without inherited variables that would change its
/// behavior.
fn command(python: &Path) -> Command {
    let mut command = Command::new(python);
    remove_variables(&mut command, |name| {
        let name = name.to_uppercase();
        name.starts_with("TWILIO_") || name.starts_with("PYTHON") || name.ends_with("_PROXY")
    });
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1");
    command
}

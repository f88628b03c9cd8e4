//! Determines the name of the operator who runs a command, for the audit records of its changes.

use app::Origin;

/// Returns the operator who runs this command, identified by the environment variable `USER` or `LOGNAME`. The name is
/// empty if neither variable is set.
pub(crate) fn operator() -> Origin {
    let names = ["USER", "LOGNAME"].map(std::env::var);
    let name = names.into_iter().flatten().find(|name| !name.is_empty());
    Origin::operator(&name.unwrap_or_default())
}

//! The operator as the origin of a change in the audit log.

use app::Origin;

/// Returns the operator who runs this command, named by `USER` or `LOGNAME`.
pub(crate) fn operator() -> Origin {
    let names = ["USER", "LOGNAME"].map(std::env::var);
    let name = names.into_iter().flatten().find(|name| !name.is_empty());
    Origin::operator(&name.unwrap_or_default())
}

//! `countersign demo`.
use crate::failure::Failure;
pub(crate) async fn run() -> Result<(), Failure> {
    Ok(())
}

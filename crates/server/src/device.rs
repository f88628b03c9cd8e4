//! `countersign device`.
use crate::failure::Failure;
#[derive(Debug, clap::Args)]
pub(crate) struct Device {}
pub(crate) async fn run(_: Box<Device>) -> Result<(), Failure> {
    Ok(())
}

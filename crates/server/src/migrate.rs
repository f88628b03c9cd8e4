//! `countersign migrate`.

use store::{OldSchema, Store};

use crate::cli::Storage;
use crate::failure::Failure;

/// Applies the migrations that the database lacks, and names them.
pub(crate) async fn run(storage: &Storage) -> Result<(), Failure> {
    let (store, applied) = Store::open(&storage.location()?, OldSchema::Migrate).await?;
    store.close().await;
    if applied.is_empty() {
        println!("the database is up to date");
    }
    for name in applied {
        println!("applied {name}");
    }
    Ok(())
}

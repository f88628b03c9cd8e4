//! `countersign migrate`.

use store::{Location, OldSchema, Store};

use crate::cli::Storage;
use crate::failure::Failure;

/// Applies the migrations that the database lacks, and names them.
pub(crate) async fn run(storage: &Storage) -> Result<(), Failure> {
    let location = storage.location()?;
    // A file that is made here gets its master key with it: later, one without would pass for lost.
    if matches!(&location, Location::Sqlite(path) if !path.exists()) {
        storage.master_key()?;
    }
    storage.make_private(&location)?;
    let (store, applied) = Store::open(&location, OldSchema::Migrate).await?;
    store.close().await;
    if applied.is_empty() {
        println!("the database is up to date");
    }
    for name in applied {
        println!("applied {name}");
    }
    Ok(())
}

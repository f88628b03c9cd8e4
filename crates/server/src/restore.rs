//! `countersign restore`: puts a backup in the place of the SQLite database, when no server runs.

use std::path::{Path, PathBuf};

use app::SystemClock;
use clap::Args;
use crypto::MasterKeys;
use domain::Clock as _;
use store::{Location, Origin, Read, Replacement};

use crate::backup::POSTGRES;
use crate::cli::Storage;
use crate::failure::Failure;
use crate::keys;
use crate::terminal::say;

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// What `backup` wrote
    file: PathBuf,
    /// Take it even if a newer version of Countersign has written it; its schema is not checked then
    #[arg(long)]
    allow_newer: bool,
    #[command(flatten)]
    storage: Storage,
}

pub(crate) async fn run(options: Restore) -> Result<(), Failure> {
    let storage = options.storage;
    let Location::Sqlite(database) = storage.location()? else {
        return Err(Failure::new(POSTGRES));
    };
    let file = options.file.display();
    let master_keys = storage.present_master_keys()?.ok_or_else(|| {
        Failure::new(format!(
            "there is no master key, without which {file} is of no use: put it where it was, {}, or give it with \
             COUNTERSIGN_MASTER_KEY",
            storage.key_file().display()
        ))
    })?;
    let admission = Admission { file: &options.file, allow_newer: options.allow_newer, master_keys };
    // Before the copy, which takes its time.
    admission.check(store::inspect(&options.file).await?).await?;
    storage.make_data_dir()?;
    let replacement = Replacement::prepare(&options.file, &database).await?;
    admission.check(replacement.inspect().await?).await?;
    let kept = name_for_what_was_there(&database);
    if replacement.put_in_place(&kept).await? {
        say(format_args!("kept what was there as {}", kept.display()))?;
    }
    say(format_args!("restored {} from {file}", database.display()))?;
    Ok(())
}

/// What a file must fulfil to be restored.
struct Admission<'a> {
    file: &'a Path,
    allow_newer: bool,
    master_keys: MasterKeys,
}

impl Admission<'_> {
    async fn check(&self, (mut db, origin): (Read, Origin)) -> Result<(), Failure> {
        let file = self.file.display();
        self.check_schema(&origin)?;
        let seals = app::seals(&mut db).await?;
        if let Some(sealed) = keys::missing(&self.master_keys, &seals).next() {
            let (what, key) = (keys::words(sealed), keys::name(sealed));
            return Err(Failure::new(format!(
                "{file} needs another master key: {what} sealed under master key {key}"
            )));
        }
        app::check_master_keys(&mut db, &self.master_keys).await.map_err(|error| {
            Failure::new(format!("{file} can't be opened with the master key: {}", Failure::from(error)))
        })
    }

    fn check_schema(&self, Origin { newer, differences }: &Origin) -> Result<(), Failure> {
        let file = self.file.display();
        if !newer.is_empty() {
            // What a newer migration makes can't be told from what is foreign.
            return if self.allow_newer {
                Ok(())
            } else {
                Err(Failure::new(format!(
                    "{file} was written by a newer version of Countersign, with {}; restore it with that, or with \
                     --allow-newer, which does not check its schema",
                    newer.join(", ")
                )))
            };
        }
        if !differences.is_empty() {
            return Err(Failure::new(format!(
                "{file} has another schema than Countersign makes: {}; a trigger or a view can change what the server \
                 decides, so restore another backup, or mend this one with sqlite3",
                differences.join("; ")
            )));
        }
        Ok(())
    }
}

/// A name that nothing has, however many restores there are in a second. Nobody else makes one meanwhile, since the
/// folder is held.
fn name_for_what_was_there(database: &Path) -> PathBuf {
    let now: String = SystemClock.now().to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let with = |end: &str| {
        let mut name = database.as_os_str().to_owned();
        name.push(format!(".before-restore-{now}{end}"));
        PathBuf::from(name)
    };
    let (mut end, mut number) = (String::new(), 1);
    while with(&end).exists() || with(&format!("{end}-wal")).exists() {
        number += 1;
        end = format!("-{number}");
    }
    with(&end)
}

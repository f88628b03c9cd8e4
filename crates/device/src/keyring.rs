//! The keyring: the file in which a terminal phone stores its enrollments.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tempfile::NamedTempFile;

use crate::enrollment::Enrollment;
use crate::error::Error;
use crate::totp::AuthenticatorApp;

/// What one terminal phone stores: its enrollments and the entries of its authenticator app, in one file.
///
/// The file contains private keys and secrets, so only its owner may have access. If two processes save at the same
/// time, the later one overwrites the changes of the other.
#[derive(Debug)]
pub struct Keyring {
    path: PathBuf,
    enrollments: Vec<Enrollment>,
    apps: Vec<AuthenticatorApp>,
}

#[derive(Deserialize)]
struct Contents {
    enrollments: Vec<Enrollment>,
    #[serde(default)]
    totp: Vec<StoredApp>,
}

#[derive(Serialize)]
struct ContentsRef<'a> {
    enrollments: &'a [Enrollment],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    totp: Vec<StoredAppRef<'a>>,
}

/// An entry of the authenticator app in the file.
#[derive(Deserialize)]
struct StoredApp {
    #[serde(deserialize_with = "deserialize_app")]
    uri: AuthenticatorApp,
}

#[derive(Serialize)]
struct StoredAppRef<'a> {
    #[serde(serialize_with = "serialize_app")]
    uri: &'a AuthenticatorApp,
}

fn deserialize_app<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AuthenticatorApp, D::Error> {
    let uri = String::deserialize(deserializer)?;
    AuthenticatorApp::from_uri(&uri).ok_or_else(|| serde::de::Error::custom("not an otpauth URI"))
}

fn serialize_app<S: Serializer>(app: &&AuthenticatorApp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(app.to_uri().expose())
}

impl Keyring {
    /// Reads the keyring from `path`. Returns an empty keyring if the file does not exist.
    ///
    /// # Errors
    /// Returns [`Error::KeyringOpenToOthers`] if other users have access to the file,
    /// [`Error::KeyringMalformed`] if its content is invalid, or [`Error::Keyring`] if it cannot be read.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let failed = |source| Error::Keyring { path: path.clone(), source };
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, enrollments: Vec::new(), apps: Vec::new() });
            }
            opened => opened.map_err(failed)?,
        };
        // Check the open file rather than the path, which may refer to another file by the time it is read.
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if is_open_to_others(&metadata) {
            return Err(Error::KeyringOpenToOthers { path });
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        match serde_json::from_str::<Contents>(&text) {
            Ok(Contents { enrollments, totp }) => {
                Ok(Self { path, enrollments, apps: totp.into_iter().map(|stored| stored.uri).collect() })
            }
            Err(error) => Err(Error::KeyringMalformed { path, line: error.line(), column: error.column() }),
        }
    }

    /// Writes the keyring to its file atomically. Concurrent readers, and readers after a crash, get either
    /// the old or the new content.
    ///
    /// # Errors
    /// Returns [`Error::Keyring`] if the file cannot be written.
    pub fn save(&self) -> Result<(), Error> {
        self.write().map_err(|source| Error::Keyring { path: self.path.clone(), source })
    }

    fn write(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // The temporary file is created with mode 0600 under an unused name.
        let mut file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        let totp = self.apps.iter().map(|uri| StoredAppRef { uri }).collect();
        serde_json::to_writer_pretty(&mut file, &ContentsRef { enrollments: &self.enrollments, totp })?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }

    /// Returns all entries of the authenticator app in the order in which they were added.
    pub fn apps(&self) -> &[AuthenticatorApp] {
        &self.apps
    }

    /// Adds an entry to the authenticator app. If there is one of the same issuer and account, replaces it.
    pub fn put_app(&mut self, app: AuthenticatorApp) {
        let names = |app: &AuthenticatorApp| (app.issuer().to_owned(), app.account_name().to_owned());
        match self.apps.iter_mut().find(|known| names(known) == names(&app)) {
            Some(known) => *known = app,
            None => self.apps.push(app),
        }
    }

    /// Removes the entries of this account from the authenticator app, and returns their number.
    pub fn remove_apps(&mut self, account_name: &str) -> usize {
        let before = self.apps.len();
        self.apps.retain(|app| app.account_name() != account_name);
        before - self.apps.len()
    }

    /// Returns all enrollments in the order in which they were added.
    pub fn enrollments(&self) -> &[Enrollment] {
        &self.enrollments
    }

    /// Adds an enrollment. If the keyring already has one for the same factor, replaces it.
    pub fn put(&mut self, enrollment: Enrollment) {
        match self.enrollments.iter_mut().find(|known| known.factor_sid == enrollment.factor_sid) {
            Some(known) => *known = enrollment,
            None => self.enrollments.push(enrollment),
        }
    }

    /// Returns the enrollment whose factor SID is `prefix` or, failing that, the only one whose factor SID
    /// begins with `prefix`. An empty prefix matches every enrollment.
    ///
    /// # Errors
    /// Returns [`Error::NoSuchFactor`] if no factor SID matches, or [`Error::AmbiguousFactor`] if more than
    /// one begins with `prefix`.
    pub fn find(&self, prefix: &str) -> Result<&Enrollment, Error> {
        self.position(prefix).map(|index| &self.enrollments[index])
    }

    /// Removes and returns the enrollment that [`find`](Self::find) returns for `prefix`.
    ///
    /// # Errors
    /// Returns [`Error::NoSuchFactor`] if no factor SID matches, or [`Error::AmbiguousFactor`] if more than
    /// one begins with `prefix`.
    pub fn remove(&mut self, prefix: &str) -> Result<Enrollment, Error> {
        self.position(prefix).map(|index| self.enrollments.remove(index))
    }

    fn position(&self, prefix: &str) -> Result<usize, Error> {
        let known = || self.enrollments.iter().map(|known| known.factor_sid.as_str());
        if let Some(index) = known().position(|sid| sid == prefix) {
            return Ok(index);
        }
        let mut matching = known().enumerate().filter(|(_, sid)| sid.starts_with(prefix));
        match (matching.next(), matching.next()) {
            (Some((index, _)), None) => Ok(index),
            (None, _) => Err(Error::NoSuchFactor(prefix.to_owned())),
            (Some(_), Some(_)) => Err(Error::AmbiguousFactor(prefix.to_owned())),
        }
    }
}

#[cfg(unix)]
fn is_open_to_others(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Metadata) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::enrollment::sample;
    use crate::style::Style;

    fn enrollment(factor_sid: &str) -> Enrollment {
        Enrollment { factor_sid: factor_sid.into(), ..sample(Style::Android) }
    }

    fn sids(keyring: &Keyring) -> Vec<&str> {
        keyring.enrollments().iter().map(|enrollment| enrollment.factor_sid.as_str()).collect()
    }

    #[test]
    fn saved_keyring_can_be_read_back_and_is_readable_by_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.json");
        let mut keyring = Keyring::load(&path).unwrap();
        assert!(keyring.enrollments().is_empty());
        keyring.put(enrollment("YF0301"));
        keyring.put(enrollment("YF0302"));
        keyring.save().unwrap();
        keyring.save().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        let again = Keyring::load(&path).unwrap();
        assert_eq!(sids(&again), ["YF0301", "YF0302"]);
        let key = |keyring: &Keyring| keyring.enrollments()[1].key.public_key_base64();
        assert_eq!(key(&again), key(&keyring));
    }

    #[test]
    fn entries_of_the_authenticator_app_are_stored_beside_the_enrollments() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.json");
        let app = |name: &str, digits: u32| {
            let uri = format!("otpauth://totp/Bank:{name}?secret=GEZDGNBVGY3TQOJQ&digits={digits}");
            AuthenticatorApp::from_uri(&uri).unwrap()
        };
        let mut keyring = Keyring::load(&path).unwrap();
        keyring.save().unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("totp"));
        keyring.put(enrollment("YF0301"));
        keyring.put_app(app("a", 6));
        keyring.put_app(app("b", 6));
        keyring.put_app(app("a", 8));
        keyring.save().unwrap();
        let mut again = Keyring::load(&path).unwrap();
        let uris =
            |keyring: &Keyring| keyring.apps().iter().map(|app| app.to_uri().expose().clone()).collect();
        let stored: Vec<String> = uris(&again);
        assert_eq!(stored, [app("a", 8), app("b", 6)].map(|app| app.to_uri().expose().clone()));
        assert_eq!(sids(&again), ["YF0301"]);
        assert_eq!((again.remove_apps("a"), again.remove_apps("a"), again.apps().len()), (1, 0, 1));
        fs::write(&path, r#"{"enrollments":[],"totp":[{"uri":"otpauth://totp/a?secret=GEZD"}]}"#).unwrap();
        let error = Keyring::load(&path).unwrap_err();
        assert!(
            matches!(error, Error::KeyringMalformed { .. }) && !format!("{error:?}").contains("GEZD"),
            "{error}"
        );
    }

    #[test]
    fn keyring_that_other_users_can_access_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.json");
        Keyring::load(&path).unwrap().save().unwrap();
        for mode in [0o640, 0o604, 0o660, 0o610, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Keyring::load(&path).unwrap_err();
            assert!(matches!(error, Error::KeyringOpenToOthers { .. }), "{mode:o}");
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(Keyring::load(&path).is_ok());
    }

    #[test]
    fn error_for_a_malformed_keyring_contains_the_position_but_no_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.json");
        Keyring::load(&path).unwrap().save().unwrap();
        fs::write(&path, "{\n\"enrollments\": \"MIGHAgEA\"}").unwrap();
        let error = Keyring::load(&path).unwrap_err();
        assert!(matches!(error, Error::KeyringMalformed { line: 2, .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("MIGH"));
    }

    #[test]
    fn folder_is_rejected_as_a_keyring_whatever_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o755, 0o700] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Keyring::load(folder.path()), Err(Error::Keyring { .. })), "{mode:o}");
        }
    }

    #[test]
    fn factor_is_found_by_a_unique_prefix() {
        let mut keyring = Keyring { path: PathBuf::new(), enrollments: Vec::new(), apps: Vec::new() };
        assert!(matches!(keyring.find(""), Err(Error::NoSuchFactor(_))));
        keyring.put(enrollment("YF0301"));
        assert_eq!(keyring.find("").unwrap().factor_sid, "YF0301");
        keyring.put(enrollment("YF0302"));
        assert_eq!(keyring.find("YF0302").unwrap().factor_sid, "YF0302");
        assert!(matches!(keyring.find("YF03"), Err(Error::AmbiguousFactor(_))));
        assert!(matches!(keyring.find("YF04"), Err(Error::NoSuchFactor(_))));
        let renamed = Enrollment { friendly_name: "New".into(), ..keyring.find("YF0301").unwrap().clone() };
        keyring.put(renamed);
        keyring.put(enrollment("YF030"));
        assert_eq!(keyring.remove("YF0301").unwrap().friendly_name, "New");
        assert_eq!(keyring.find("YF030").unwrap().factor_sid, "YF030", "a complete SID is never ambiguous");
        assert_eq!(sids(&keyring), ["YF0302", "YF030"]);
    }
}

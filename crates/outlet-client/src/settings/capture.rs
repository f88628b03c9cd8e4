//! Settings of outlets that record messages in a file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{InvalidOutlet, OutletField, OutletSummary};

/// Settings of a recording outlet, as an operator enters them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct CaptureParameters {
    /// The absolute path of the file.
    pub path: String,
}

/// Valid settings of a recording outlet.
#[derive(Clone)]
pub struct CaptureSettings {
    parameters: CaptureParameters,
}

impl CaptureSettings {
    /// Validates parameters.
    ///
    /// # Errors
    /// Returns an error if the path is not absolute. A relative one would mean another file in each process.
    pub fn new(parameters: CaptureParameters) -> Result<Self, InvalidOutlet> {
        let path = &parameters.path;
        let is_file = Path::new(path).is_absolute() && !path.ends_with('/');
        if !is_file || path.chars().any(char::is_control) {
            return Err(OutletField::Path.must("must be the absolute path of a file"));
        }
        Ok(Self { parameters })
    }

    pub(super) const fn parameters(&self) -> &CaptureParameters {
        &self.parameters
    }

    pub(super) fn summary(&self) -> OutletSummary {
        OutletSummary { target: self.parameters.path.clone(), user: None, from: None }
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        Path::new(&self.parameters.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_that_of_a_file() {
        let is_valid = |path: &str| CaptureSettings::new(CaptureParameters { path: path.to_owned() }).is_ok();
        assert!(is_valid("/var/lib/countersign/messages.jsonl"));
        for bad in ["", "messages.jsonl", "/var/", "/a\nb"] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}

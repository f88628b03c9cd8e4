//! Forms: descriptions of the parameters of requests (docs/protocol/verifications.md).

/// A type of forms: those of the requests about one type of factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormType {
    /// The forms of push factors.
    Push,
}

impl FormType {
    /// Returns the type's name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "form-push",
        }
    }

    /// Returns the type that a segment of a path names, or `None` if there is none.
    pub fn from_path(segment: &str) -> Option<Self> {
        (segment == Self::Push.as_str()).then_some(Self::Push)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_names_a_type_of_forms_exactly() {
        assert_eq!(FormType::from_path("form-push"), Some(FormType::Push));
        for bad in ["", "push", "form-totp", "Form-push", "form-push "] {
            assert_eq!(FormType::from_path(bad), None, "{bad}");
        }
    }
}

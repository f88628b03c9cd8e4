//! Errors in words.

use std::error::Error;

/// An error and what led to it, outermost first, for the log and for operators. What repeats its cause's words at its
/// end says them once.
pub fn causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !words.ends_with(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Said(&'static str, Option<Box<Said>>);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Said {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn each_cause_is_said_once() {
        let refused = Said("connection refused", None);
        let tried = Said("can't connect: connection refused", Some(Box::new(refused)));
        assert_eq!(
            causes(&Said("no answer", Some(Box::new(tried)))),
            "no answer: can't connect: connection refused"
        );
    }
}

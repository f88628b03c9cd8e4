//! Formatting of an error together with its causes.

use std::error::Error;

/// Returns the text of an error and its causes for logs and operators, outermost first, separated by `: `.
///
/// A cause is omitted if the text so far already ends with the text of the cause.
pub fn error_report(error: &dyn Error) -> String {
    let mut report = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !report.ends_with(&text) {
            report.push_str(": ");
            report.push_str(&text);
        }
        source = cause.source();
    }
    report
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct TestError(&'static str, Option<Box<TestError>>);

    impl fmt::Display for TestError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for TestError {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn cause_repeated_by_its_error_is_reported_once() {
        let cause = TestError("connection refused", None);
        let middle = TestError("can't connect: connection refused", Some(Box::new(cause)));
        assert_eq!(
            error_report(&TestError("request failed", Some(Box::new(middle)))),
            "request failed: can't connect: connection refused"
        );
    }
}

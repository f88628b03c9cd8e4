//! Parses the log levels of the option `log`.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, Targets};

/// Parses log levels separated by commas, such as `info,api=debug`. Without any level, errors are logged.
///
/// # Errors
/// Returns a description of what is expected if `text` is malformed.
pub(crate) fn parse_levels(text: &str) -> Result<Targets, String> {
    let levels: Vec<_> = text.split(',').map(str::trim).filter(|level| !level.is_empty()).collect();
    if levels.is_empty() {
        return Ok(Targets::new().with_default(LevelFilter::ERROR));
    }
    if text.contains('[') {
        return Err("expected levels of targets, such as info,api=debug, without spans or fields".to_owned());
    }
    levels.join(",").parse().map_err(|error: ParseError| error.to_string())
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn log_levels_apply_to_their_targets() {
        for (text, target, enabled, disabled) in [
            ("info,web=debug,sqlx=off", "web::middleware", Some(Level::DEBUG), Some(Level::TRACE)),
            ("info,web=debug,sqlx=off", "store", Some(Level::INFO), Some(Level::DEBUG)),
            ("info,web=debug,sqlx=off", "sqlx::query", None, Some(Level::ERROR)),
            ("info, api=debug ,", "api", Some(Level::DEBUG), Some(Level::TRACE)),
            ("api=debug", "store", None, Some(Level::ERROR)),
            ("", "store", Some(Level::ERROR), Some(Level::WARN)),
        ] {
            let levels = parse_levels(text).unwrap();
            let is_enabled = |level: Level| levels.would_enable(target, &level);
            assert!(enabled.is_none_or(is_enabled), "{text}: {target}");
            assert!(!disabled.is_some_and(is_enabled), "{text}: {target}");
        }
    }

    #[test]
    fn malformed_log_levels_are_refused() {
        for text in ["api=loud", "a=b=c", "api[request]=debug", "[{request_id}]=debug"] {
            assert!(parse_levels(text).is_err(), "{text}");
        }
    }
}

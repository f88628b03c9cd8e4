//! The trace context of requests that belong to a trace which another system started.

use std::fmt;

/// The parent span of a request, as the header `traceparent` contains it (W3C Trace Context, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// ID of the trace; never 0.
    pub trace_id: u128,
    /// ID of the parent span; never 0.
    pub span_id: u64,
    /// Trace flags. If the lowest bit is set, the caller records the trace.
    pub flags: u8,
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl TraceParent {
    /// Length of the value of a `traceparent` header in version 00, and of the part with the same form in later
    /// versions.
    const VERSION_00_CHARACTERS: usize = 55;

    /// Parses the value of a `traceparent` header; returns `None` if it is invalid.
    ///
    /// Of a later version than 00, only the fields of version 00 are read, and the value must start with them (W3C
    /// Trace Context, section 3.2.4). Version ff is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        let (fields, rest) = text.split_at_checked(Self::VERSION_00_CHARACTERS)?;
        let parts: Vec<_> = fields.split('-').collect();
        let [version, trace_id, span_id, flags] = parts[..] else { return None };
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if [version, trace_id, span_id, flags].map(str::len) != [2, 32, 16, 2]
            || !parts.iter().all(|part| is_hex(part))
        {
            return None;
        }
        let is_complete = match version {
            "ff" => false,
            "00" => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        if !is_complete {
            return None;
        }
        let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span_id, 16).ok().filter(|id| *id != 0)?;
        Some(Self { trace_id, span_id, flags: u8::from_str_radix(flags, 16).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_example_from_the_specification_is_parsed_and_formatted() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(text).unwrap();
        assert_eq!((parent.span_id, parent.flags), (0x00f0_67aa_0ba9_02b7, 1));
        assert_eq!(parent.to_string(), text);
    }

    /// W3C Trace Context, section 3.2.4, requires this.
    #[test]
    fn traceparent_of_a_later_version_is_parsed_as_version_00() {
        let fields = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(&format!("00-{fields}"));
        assert!(parent.is_some());
        for later in
            [format!("01-{fields}"), format!("fe-{fields}"), format!("cc-{fields}-what-the-future-brings")]
        {
            assert_eq!(TraceParent::parse(&later), parent, "{later}");
        }
    }

    #[test]
    fn invalid_traceparent_header_is_refused() {
        for text in [
            "",
            "00",
            "---",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-ééééééééééééééé-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(text), None, "{text}");
        }
    }

    #[test]
    fn traceparent_field_with_a_wrong_length_is_refused() {
        let header = |trace: usize, span: usize| format!("00-{}-{}-00", "1".repeat(trace), "2".repeat(span));
        assert!(TraceParent::parse(&header(32, 16)).is_some());
        for (trace, span) in [(31, 16), (33, 16), (32, 15), (32, 17), (31, 17)] {
            assert_eq!(TraceParent::parse(&header(trace, span)), None, "{trace} {span}");
        }
    }
}

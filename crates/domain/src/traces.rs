//! Where in a trace something stands that somebody else began.

use std::fmt;

/// A span of a trace, as others are told of it: the header `traceparent` (W3C Trace Context, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span; never 0.
    pub span_id: u64,
    /// Flags. The lowest says that whoever began the trace keeps it.
    pub flags: u8,
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl TraceParent {
    /// Reads version 00 of the header; anything else is none.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let parts: Vec<_> = text.split('-').collect();
        let [version @ "00", trace_id, span_id, flags] = parts[..] else { return None };
        let lengths = [version, trace_id, span_id, flags].map(str::len);
        if lengths != [2, 32, 16, 2] || !parts.iter().all(|part| is_hex(part)) {
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
    fn the_example_of_the_specification_comes_back() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(text).unwrap();
        assert_eq!((parent.span_id, parent.flags), (0x00f0_67aa_0ba9_02b7, 1));
        assert_eq!(parent.to_string(), text);
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "00",
            "---",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
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
    fn each_part_must_be_of_its_length_and_not_zero() {
        let header = |trace: usize, span: usize| format!("00-{}-{}-00", "1".repeat(trace), "2".repeat(span));
        assert!(TraceParent::parse(&header(32, 16)).is_some());
        for (trace, span) in [(31, 16), (33, 16), (32, 15), (32, 17), (31, 17)] {
            assert_eq!(TraceParent::parse(&header(trace, span)), None, "{trace} {span}");
        }
    }
}

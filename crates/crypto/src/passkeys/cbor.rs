//! A decoder for the CBOR (RFC 8949) that authenticators write.
//!
//! It decodes what the canonical form of CTAP2 permits: integers, strings, arrays, maps and simple values of definite
//! length. Tags, unassigned simple values, repeated keys, keys other than integers and texts, and indefinite lengths
//! are refused. Integers may be longer than necessary and keys may have any order, because clients re-encode
//! attestation objects.

/// Maximum nesting depth of arrays and maps.
const MAX_DEPTH: usize = 8;

/// Maximum number of values, including keys. It bounds the comparison of the keys of a map.
const MAX_VALUES: usize = 1024;

/// A decoded value, which borrows strings from the input.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Integer(i128),
    Bytes(&'a [u8]),
    Text(&'a str),
    Array(Vec<Self>),
    Map(Map<'a>),
    /// `false`, `true`, `null`, `undefined`, or a floating-point number. No check depends on which one.
    Simple,
}

/// A decoded map. No key occurs twice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Map<'a>(Vec<(Value<'a>, Value<'a>)>);

impl<'a> Map<'a> {
    /// Returns the value of a key that is an integer.
    pub(super) fn integer_key(&self, key: i128) -> Option<&Value<'a>> {
        self.get(&Value::Integer(key))
    }

    /// Returns the value of a key that is a string.
    pub(super) fn text_key(&self, key: &'a str) -> Option<&Value<'a>> {
        self.get(&Value::Text(key))
    }

    fn get(&self, key: &Value<'a>) -> Option<&Value<'a>> {
        self.0.iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }
}

/// Decodes a map at the start of `bytes`, and returns it with the bytes after it. Returns `None` if it is malformed.
pub(super) fn decode_map(bytes: &[u8]) -> Option<(Map<'_>, &[u8])> {
    let mut decoder = Decoder { rest: bytes, values_left: MAX_VALUES };
    match decoder.value(MAX_DEPTH)? {
        Value::Map(map) => Some((map, decoder.rest)),
        _ => None,
    }
}

struct Decoder<'a> {
    rest: &'a [u8],
    values_left: usize,
}

impl<'a> Decoder<'a> {
    /// Decodes a value whose arrays and maps are nested at most `depth` levels deep.
    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        self.values_left = self.values_left.checked_sub(1)?;
        let initial = *self.take(1)?.first()?;
        let (major_type, information) = (initial >> 5, initial & 0x1f);
        let argument = self.argument(information)?;
        match major_type {
            0 => Some(Value::Integer(argument.into())),
            1 => Some(Value::Integer(-1 - i128::from(argument))),
            2 => self.take(argument).map(Value::Bytes),
            3 => str::from_utf8(self.take(argument)?).ok().map(Value::Text),
            4 => self.array(argument, depth.checked_sub(1)?),
            5 => self.map(argument, depth.checked_sub(1)?),
            // RFC 8949 section 3.3: the assigned simple values, and floating-point numbers.
            7 if matches!(information, 20..=23 | 25..=27) => Some(Value::Simple),
            _ => None,
        }
    }

    /// Decodes the argument of an initial byte (RFC 8949 section 3). Indefinite lengths have none.
    fn argument(&mut self, information: u8) -> Option<u64> {
        let length = match information {
            0..=23 => return Some(information.into()),
            24..=27 => 1 << (information - 24),
            _ => return None,
        };
        let bytes = self.take(length)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn array(&mut self, length: u64, depth: usize) -> Option<Value<'a>> {
        // Nothing is allocated in advance, because the length is untrusted.
        let mut array = Vec::new();
        for _ in 0..length {
            array.push(self.value(depth)?);
        }
        Some(Value::Array(array))
    }

    fn map(&mut self, length: u64, depth: usize) -> Option<Value<'a>> {
        let mut map = Map(Vec::new());
        for _ in 0..length {
            let key = self.value(depth)?;
            let is_accepted = matches!(key, Value::Integer(_) | Value::Text(_)) && map.get(&key).is_none();
            if !is_accepted {
                return None;
            }
            let value = self.value(depth)?;
            map.0.push((key, value));
        }
        Some(Value::Map(map))
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes the value of the only key, 1, of a map.
    fn decode(hex: &str) -> Option<String> {
        let bytes = hex::decode(format!("a101{hex}")).unwrap();
        let (map, rest) = decode_map(&bytes)?;
        rest.is_empty().then(|| format!("{:?}", map.integer_key(1).unwrap()))
    }

    /// Examples of RFC 8949 appendix A.
    #[test]
    fn values_of_definite_length_are_decoded() {
        for (hex, value) in [
            ("00", "Integer(0)"),
            ("17", "Integer(23)"),
            ("1818", "Integer(24)"),
            ("1903e8", "Integer(1000)"),
            ("1a000f4240", "Integer(1000000)"),
            ("1bffffffffffffffff", "Integer(18446744073709551615)"),
            ("20", "Integer(-1)"),
            ("3863", "Integer(-100)"),
            ("3bffffffffffffffff", "Integer(-18446744073709551616)"),
            ("1817", "Integer(23)"),
            ("4401020304", "Bytes([1, 2, 3, 4])"),
            ("580101", "Bytes([1])"),
            ("6449455446", "Text(\"IETF\")"),
            ("62c3bc", "Text(\"ü\")"),
            ("80", "Array([])"),
            ("820102", "Array([Integer(1), Integer(2)])"),
            ("a0", "Map(Map([]))"),
            ("f4", "Simple"),
            ("f6", "Simple"),
            ("f7", "Simple"),
            ("f93c00", "Simple"),
            ("fb3ff199999999999a", "Simple"),
        ] {
            assert_eq!(decode(hex).as_deref(), Some(value), "{hex}");
        }
    }

    #[test]
    fn other_values_are_refused() {
        for hex in [
            "",
            "18",
            "19ff",
            "1c",
            "1d",
            "1e",
            "1f",
            "4101ff",
            "4201",
            "5bffffffffffffffff00",
            "61ff",
            "62c3",
            "5f4101ff",
            "7f6101ff",
            "9f01ff",
            "bf0102ff",
            "81",
            "9bffffffffffffffff",
            "bbffffffffffffffff",
            "a101",
            "c001",
            "d9d9f700",
            "e0",
            "e8",
            "f3",
            "f800",
            "f81f",
            "f820",
            "f8ff",
            "fc",
            "ff",
        ] {
            assert_eq!(decode(hex), None, "{hex}");
        }
    }

    #[test]
    fn key_of_a_map_is_a_unique_integer_or_text() {
        assert!(decode("a200012001").is_some());
        assert!(decode("a20001613001").is_some());
        for hex in ["a200010002", "a20001180002", "a261610161 6101", "a1410100", "a18000", "a1a000", "a1f400"]
        {
            assert_eq!(decode(&hex.replace(' ', "")), None, "{hex}");
        }
    }

    #[test]
    fn nesting_has_a_maximum_depth() {
        // The outer map is the first level.
        for (levels, is_decoded) in [(7, true), (8, false)] {
            assert_eq!(decode(&format!("{}00", "81".repeat(levels))).is_some(), is_decoded);
            assert_eq!(decode(&format!("{}00", "a100".repeat(levels))).is_some(), is_decoded);
        }
        assert_eq!(decode(&"81".repeat(60_000)), None);
    }

    #[test]
    fn number_of_values_has_a_maximum() {
        // The outer map, its key and the array itself count too.
        for (length, is_decoded) in [(MAX_VALUES - 3, true), (MAX_VALUES - 2, false)] {
            assert_eq!(decode(&format!("99{length:04x}{}", "00".repeat(length))).is_some(), is_decoded);
        }
    }

    #[test]
    fn bytes_after_a_map_are_returned() {
        let (map, rest) = decode_map(&[0xa1, 0x61, b'a', 0x05, 1, 2]).unwrap();
        assert_eq!(
            (map.text_key("a"), map.text_key("b"), rest),
            (Some(&Value::Integer(5)), None, &[1, 2][..])
        );
        assert_eq!(decode_map(&[0x80]), None);
        assert_eq!(decode_map(&[]), None);
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            if let Some((_, rest)) = decode_map(&bytes) {
                prop_assert!(bytes.ends_with(rest));
            }
        }
    }
}

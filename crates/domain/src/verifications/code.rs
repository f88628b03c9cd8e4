//! One-time codes.

use std::fmt;

use crate::entropy::Entropy;
use crate::parameter::{Bounded, Expected, Parameter};
use crate::secret::Secret;

/// The plaintext code of a verification: 4 to 10 letters and digits.
#[derive(Clone)]
pub struct OneTimeCode(Secret<String>);

impl OneTimeCode {
    /// Generates a code of `length` random digits. Every code is equally likely, also those with leading zeros.
    pub fn generate(length: Bounded<4, 10>, entropy: &dyn Entropy) -> Self {
        let length = usize::try_from(length.get()).unwrap_or(10);
        let mut digits = String::with_capacity(length);
        while digits.len() < length {
            let mut bytes = [0; 16];
            entropy.fill(&mut bytes);
            // 250 is the largest multiple of 10 below 256. Higher bytes would make small digits more likely.
            let fair = bytes.iter().filter(|byte| **byte < 250).map(|byte| char::from(b'0' + byte % 10));
            digits.extend(fair.take(length - digits.len()));
        }
        Self(Secret::new(digits))
    }

    /// Wraps the text of a code that was sealed.
    pub const fn from_sealed(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// Returns the text of the code.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Returns the number of characters of the code.
    pub fn length(&self) -> usize {
        self.expose().chars().count()
    }
}

impl fmt::Debug for OneTimeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A code that a caller sends: 4 to 10 ASCII letters and digits.
#[derive(Clone, Debug)]
pub struct CustomCode(OneTimeCode);

impl CustomCode {
    /// Returns the code.
    pub fn into_code(self) -> OneTimeCode {
        self.0
    }

    /// Returns the text of the code.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl Parameter for CustomCode {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        let is_code = (4..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_code {
            Ok(Self(OneTimeCode::from_sealed(text.to_owned())))
        } else {
            Err(Expected::new("must be 4 to 10 letters and digits"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    /// Counts upwards through all bytes.
    struct Counter(AtomicU8);

    impl Entropy for Counter {
        fn fill(&self, bytes: &mut [u8]) {
            for byte in bytes {
                *byte = self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    #[test]
    fn code_has_the_requested_number_of_digits() {
        for length in 4..=10 {
            let code = OneTimeCode::generate(Bounded::new(length).unwrap(), &Counter(AtomicU8::new(0)));
            assert_eq!(code.length(), usize::try_from(length).unwrap());
            assert!(code.expose().bytes().all(|byte| byte.is_ascii_digit()));
        }
        let code = OneTimeCode::generate(Bounded::new(6).unwrap(), &Counter(AtomicU8::new(0)));
        assert_eq!(code.expose(), "012345");
    }

    #[test]
    fn bytes_that_would_favor_small_digits_are_not_used() {
        let code = OneTimeCode::generate(Bounded::new(4).unwrap(), &Counter(AtomicU8::new(248)));
        // 248 and 249 are used, 250 to 255 are not, then the bytes begin again at 0.
        assert_eq!(code.expose(), "8901");
    }

    #[test]
    fn custom_code_is_4_to_10_letters_and_digits() {
        for good in ["1234", "abcDEF1234"] {
            assert_eq!(CustomCode::from_parameter(good).unwrap().expose(), good);
        }
        for bad in ["", "123", "12345678901", "12 34", "12345é", "1234\n"] {
            assert!(CustomCode::from_parameter(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_of_a_code_hides_it() {
        let code = CustomCode::from_parameter("918273").unwrap();
        assert!(!format!("{code:?} {:?}", code.clone().into_code()).contains("918273"));
    }
}

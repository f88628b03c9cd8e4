//! The two SDKs that a phone may carry.

use std::fmt;

use domain::{Expected, Parameter};

/// Whose manners the phone has. They differ in percent-encoding, in the order of fields and keys, in
/// the name of one query parameter and in what they call themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// `twilio-verify-android`, 0.9.0.
    Android,
    /// `twilio-verify-ios`, 3.0.2.
    Ios,
}

impl Style {
    /// The name by which a person chooses it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Android => "android",
            Self::Ios => "ios",
        }
    }

    /// `Config.SdkVersion` (docs/protocol/device.md, section 3).
    pub const fn sdk_version(self) -> &'static str {
        match self {
            Self::Android => "0.9.0",
            Self::Ios => "3.0.2",
        }
    }

    /// The header `User-Agent` (docs/protocol/device.md, section 2): app, platform, the app's version and build,
    /// system, device, SDK, its version and build.
    pub fn user_agent(self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let (platform, system, device, sdk, build) = match self {
            Self::Android => ("Android", "Android 14 (34)", "Pixel 8", "VerifySDK", "2013"),
            Self::Ios => ("iOS", "iOS 17.2", "iPhone", "TwilioVerify", "1"),
        };
        ["Countersign", platform, version, "1", system, device, sdk, self.sdk_version(), build].join("; ")
    }

    /// How the query spells the page token (docs/protocol/device.md, section 6).
    pub const fn page_token_name(self) -> &'static str {
        match self {
            Self::Android => "PageToken",
            Self::Ios => "pageToken",
        }
    }
}

impl Parameter for Style {
    fn from_parameter(text: &str) -> Result<Self, Expected> {
        match text {
            "android" => Ok(Self::Android),
            "ios" => Ok(Self::Ios),
            _ => Err(Expected::new("must be android or ios")),
        }
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for style in [Style::Android, Style::Ios] {
            assert_eq!(Style::from_parameter(style.as_str()), Ok(style));
        }
        assert!(Style::from_parameter("iOS").is_err());
    }

    #[test]
    fn user_agents_have_nine_parts() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            Style::Android.user_agent(),
            format!("Countersign; Android; {version}; 1; Android 14 (34); Pixel 8; VerifySDK; 0.9.0; 2013")
        );
        assert_eq!(
            Style::Ios.user_agent(),
            format!("Countersign; iOS; {version}; 1; iOS 17.2; iPhone; TwilioVerify; 3.0.2; 1")
        );
    }
}

//! The two SDKs, Android and iOS, that a phone can imitate.

use std::fmt;

use domain::{Expected, Parameter};

/// The SDK that a phone imitates. The SDKs differ in percent-encoding, in the order of fields and keys, in
/// the name of one query parameter, and in the `User-Agent` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// The Android SDK, `twilio-verify-android` 0.9.0.
    Android,
    /// The iOS SDK, `twilio-verify-ios` 3.0.2.
    Ios,
}

impl Style {
    /// Returns the style's name on the command line, `android` or `ios`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Android => "android",
            Self::Ios => "ios",
        }
    }

    /// Returns the SDK version, which is sent as `Config.SdkVersion` (docs/protocol/device.md, section 3).
    pub const fn sdk_version(self) -> &'static str {
        match self {
            Self::Android => "0.9.0",
            Self::Ios => "3.0.2",
        }
    }

    /// Returns the value of the `User-Agent` header (docs/protocol/device.md, section 2). Its parts are the
    /// app, the platform, the app's version and build, the operating system, the device model, the SDK, and
    /// the SDK's version and build.
    pub fn user_agent(self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let (platform, system, device, sdk, build) = match self {
            Self::Android => ("Android", "Android 14 (34)", "Pixel 8", "VerifySDK", "2013"),
            Self::Ios => ("iOS", "iOS 17.2", "iPhone", "TwilioVerify", "1"),
        };
        ["Countersign", platform, version, "1", system, device, sdk, self.sdk_version(), build].join("; ")
    }

    /// Returns the name of the query parameter that contains the page token (docs/protocol/device.md, section
    /// 6).
    pub(crate) const fn page_token_parameter(self) -> &'static str {
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
    fn style_name_parses_back_to_the_same_style() {
        for style in [Style::Android, Style::Ios] {
            assert_eq!(Style::from_parameter(style.as_str()), Ok(style));
        }
        assert!(Style::from_parameter("iOS").is_err());
    }

    #[test]
    fn user_agent_has_the_nine_parts_of_the_imitated_sdk() {
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

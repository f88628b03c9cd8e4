//! The text of a message, from what the service, the verification and the attempt say.

use domain::locales::Locale;
use domain::messages::{ComposedMessage, MessageInputs, compose};
use domain::services::Settings;
use domain::templates::Template;
use domain::verifications::{MessageOptions, Payment};
use domain::{Channel, Problem};

/// What the text of a message depends on, apart from the code.
pub(crate) struct Wording<'a> {
    /// Settings of the service.
    pub(crate) settings: &'a Settings,
    /// Options of the attempt.
    pub(crate) options: &'a MessageOptions,
    /// Template of the text; `None` for the default text.
    pub(crate) template: Option<&'a Template>,
    pub(crate) channel: Channel,
    pub(crate) locale: Locale,
    /// Payment that the user confirms.
    pub(crate) payment: Option<&'a Payment>,
    /// Seconds for which the code remains valid.
    pub(crate) seconds_left: i64,
}

impl Wording<'_> {
    /// Returns the name that the text gives the service.
    pub(crate) fn service_name(&self) -> &str {
        match &self.options.friendly_name {
            Some(name) => name.as_str(),
            None => self.settings.friendly_name.as_str(),
        }
    }

    /// Writes the message. A call says it at once, or after a key was pressed if it has a URL to continue with.
    ///
    /// # Errors
    /// Fails with 60224 if a variable of the template has no value, and with 60247 if the text is too long.
    pub(crate) fn compose(
        &self,
        code: &str,
        key_press_url: Option<&str>,
    ) -> Result<ComposedMessage, Problem> {
        let template =
            self.template.and_then(|template| template.texts_for(self.channel, &[self.locale]).next());
        compose(&MessageInputs {
            service_name: self.service_name(),
            code,
            // Rounded up, so that a code that is valid for less than a minute does not seem to have expired.
            validity_minutes: (self.seconds_left + 59) / 60,
            channel: self.channel,
            locale: self.locale,
            do_not_share: self.settings.do_not_share_warning_enabled,
            app_hash: self.options.app_hash.as_ref(),
            payment: self.payment,
            template: template.map(|(text, _)| text),
            substitutions: &self.options.substitutions,
            key_press_url,
        })
    }
}

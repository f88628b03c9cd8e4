//! Which outlet sends a message.

use domain::outlets::{Outlet, OutletChoice, OutletSid};
use domain::{Channel, Code, Country, Service};
use store::Read;

use crate::App;
use crate::configured_outlets::ConfiguredOutlets;
use crate::error::Error;

/// What the choice of an outlet depends on besides the database.
#[derive(Clone)]
pub(crate) struct OutletRules {
    has_mail: bool,
    has_text: bool,
    is_test_server: bool,
}

impl OutletRules {
    /// Returns the rules of this server.
    pub(crate) fn of(app: &App) -> Self {
        let ConfiguredOutlets { mail, text } = &app.configured_outlets;
        Self { has_mail: mail.is_some(), has_text: text.is_some(), is_test_server: app.capture.is_some() }
    }

    /// Returns the outlet for messages of a service through `channel` to `country`: the one that the service's settings
    /// name, else the account's oldest outlet for the channel, else the one of the server's options. An outlet that the
    /// settings name but that does not exist, or does not serve the channel, is passed over.
    ///
    /// # Errors
    /// Fails with 60217, 60223 or 68008 if there is no outlet for the channel. Also fails if the database fails.
    pub(crate) async fn choose(
        &self,
        db: &mut Read,
        service: &Service,
        channel: Channel,
        country: Option<Country>,
    ) -> Result<OutletChoice, Error> {
        if self.is_test_server {
            return Ok(OutletChoice::TestServer);
        }
        let named = match channel {
            Channel::Sms | Channel::Call => db.messaging_configuration_for(service.sid, country).await?,
            Channel::Whatsapp => service.settings.whatsapp.msg_service_sid,
            Channel::Email => None,
        };
        let mut outlets = db.outlets_of_account(service.account_sid).await?;
        outlets.retain(|outlet| outlet.serves(channel));
        let is_named =
            |outlet: &&Outlet| named.is_some_and(|named| outlet.sid == OutletSid::Messaging(named));
        match outlets.iter().find(is_named).or_else(|| outlets.first()) {
            Some(outlet) => Ok(OutletChoice::Stored(outlet.sid)),
            None => Ok(self.configured(channel)?),
        }
    }

    /// Returns the outlet of the server's options for a channel.
    fn configured(&self, channel: Channel) -> Result<OutletChoice, Code> {
        match channel {
            Channel::Email if self.has_mail => Ok(OutletChoice::SmtpUrl),
            Channel::Email => Err(Code::NoMailOutlet),
            Channel::Sms if self.has_text => Ok(OutletChoice::SmsUrl),
            Channel::Sms | Channel::Call => Err(Code::NoOutlet),
            Channel::Whatsapp => Err(Code::NoWhatsappOutlet),
        }
    }
}

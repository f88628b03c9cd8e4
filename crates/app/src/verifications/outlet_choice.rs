//! Which outlet sends a message.

use domain::outlets::{Outlet, OutletChoice, OutletSid};
use domain::{Channel, Code, Country, MessagingServiceSid, Service};
use store::Read;

use crate::App;
use crate::configured_outlets::ConfiguredOutlets;
use crate::error::Error;

/// The outlet for a message.
pub(crate) struct SelectedOutlet {
    pub(crate) choice: OutletChoice,
    /// The outlet that the settings of the service name first, if it does not exist or does not serve the channel.
    pub(crate) passed_over: Option<MessagingServiceSid>,
}

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

    /// Selects the outlet for messages of a service through `channel` to `country`: the first of those that the
    /// service's settings name, else the account's oldest outlet for the channel, else the one of the server's options.
    /// An outlet that the settings name but that does not exist, or does not serve the channel, is passed over.
    ///
    /// # Errors
    /// Fails with 60217, 60223 or 68008 if there is no outlet for the channel. Also fails if the database fails.
    pub(crate) async fn choose(
        &self,
        db: &mut Read,
        service: &Service,
        channel: Channel,
        country: Option<Country>,
    ) -> Result<SelectedOutlet, Error> {
        if self.is_test_server {
            return Ok(SelectedOutlet { choice: OutletChoice::TestServer, passed_over: None });
        }
        let named = match channel {
            Channel::Sms => db.messaging_services_for(service.sid, country).await?,
            Channel::Whatsapp => service.settings.whatsapp.msg_service_sid.into_iter().collect(),
            Channel::Call | Channel::Email => Vec::new(),
        };
        let mut outlets = db.outlets_of_account(service.account_sid).await?;
        outlets.retain(|outlet| outlet.serves(channel));
        let with_sid = |sid: &MessagingServiceSid| {
            outlets.iter().find(|outlet: &&Outlet| outlet.sid == OutletSid::Messaging(*sid))
        };
        let choice = match named.iter().find_map(with_sid).or_else(|| outlets.first()) {
            Some(outlet) => OutletChoice::Stored(outlet.sid),
            None => self.configured(channel)?,
        };
        let passed_over = named.first().filter(|sid| with_sid(sid).is_none()).copied();
        Ok(SelectedOutlet { choice, passed_over })
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

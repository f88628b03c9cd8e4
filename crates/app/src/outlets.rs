//! Use cases of outlets, through which one-time codes are sent: create, fetch, list, update, delete, decrypt and test.

use std::num::NonZeroU32;
use std::sync::Arc;

use domain::audit::{AuditAction, Change};
use domain::outlets::{self, Outlet, OutletSid};
use domain::parameter::Expected;
use domain::verifications::{MailOptions, OneTimeCode};
use domain::{
    AccountSid, AttemptSid, Channel, Code, FriendlyName, MailerSid, MessagingServiceSid, Problem, Recipient,
};
use outlet_client::{InvalidOutlet, Message, Outcome, OutletClient, OutletSettings};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;
use crate::master_keys::MasterKeySource;

/// The code in test messages.
const TEST_CODE: &str = "123456";

/// The parameters of a new outlet.
#[derive(Debug)]
pub struct NewOutlet {
    /// Display name of the outlet.
    pub friendly_name: FriendlyName,
    /// Channels that the outlet serves.
    pub channels: Vec<Channel>,
    /// Settings of the outlet, with its secret.
    pub settings: OutletSettings,
    /// Maximum number of messages per second; `None` for no limit.
    pub rate: Option<NonZeroU32>,
}

/// Computes the new settings of an outlet from the current ones. It runs while the outlet is locked, so that concurrent
/// changes are both kept. It may run more than once, because a transaction can be retried.
pub type SettingsChange = Box<dyn Fn(&OutletSettings) -> Result<OutletSettings, Problem> + Send + Sync>;

/// The changes to an outlet. Fields that are `None` are left unchanged.
#[derive(Default)]
pub struct OutletChange {
    /// New display name.
    pub friendly_name: Option<FriendlyName>,
    /// New channels. An outlet that sends mail keeps the channel `email`, and no other outlet can get it.
    pub channels: Option<Vec<Channel>>,
    /// Change of the settings, which must stay of the same kind.
    pub settings: Option<SettingsChange>,
    /// New maximum number of messages per second; `Some(None)` for no limit.
    pub rate: Option<Option<NonZeroU32>>,
}

impl OutletChange {
    /// Returns the names of the changed fields, for the audit record.
    fn names(&self) -> Vec<&'static str> {
        let names = [
            ("friendly_name", self.friendly_name.is_some()),
            ("channels", self.channels.is_some()),
            ("settings", self.settings.is_some()),
            ("rate", self.rate.is_some()),
        ];
        names.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name).collect()
    }

    /// Applies the change to an outlet with these settings. Returns the new settings, or `None` if they stay as they
    /// are.
    ///
    /// # Errors
    /// Fails with 60306 if the channels or the settings don't fit the outlet.
    fn apply(
        &self,
        outlet: &mut Outlet,
        settings: &OutletSettings,
    ) -> Result<Option<OutletSettings>, Problem> {
        if let Some(channels) = &self.channels {
            let channels = outlets::require_channels(channels)?;
            if OutletSid::from_stored(outlet.sid.to_bytes(), &channels) != outlet.sid {
                let expected =
                    "can't change from or to email, because the SID depends on it: create another outlet";
                return Err(Problem::invalid("Channel", &Expected::new(expected)));
            }
            outlet.channels = channels;
        }
        let new_settings = self.settings.as_ref().map(|change| change(settings)).transpose()?;
        let settings = new_settings.as_ref().unwrap_or(settings);
        if settings.kind() != outlet.kind {
            return Err(Problem::invalid("Kind", &Expected::new("can't be changed")));
        }
        settings.require_channels(&outlet.channels).map_err(|invalid| invalid_outlet(&invalid))?;
        if let Some(name) = &self.friendly_name {
            outlet.friendly_name = name.clone();
        }
        if let Some(rate) = self.rate {
            outlet.rate = rate;
        }
        Ok(new_settings)
    }
}

/// Returns the error 60306 for invalid settings of an outlet.
fn invalid_outlet(invalid: &InvalidOutlet) -> Problem {
    Problem::with_advice(Code::InvalidRequest, invalid)
}

/// Returns the change to record in the audit log for an action on an outlet.
fn about(action: AuditAction, outlet: &Outlet) -> Change {
    let channels: Vec<_> = outlet.channels.iter().map(|channel| channel.as_str()).collect();
    let change = Change::new(action, outlet.account_sid, outlet.sid);
    change.detail("kind", outlet.kind.as_str()).detail("channels", channels)
}

impl App {
    /// Creates an outlet, and returns it with its settings sealed.
    ///
    /// # Errors
    /// Fails with 20404 if the account does not exist, and with 60306 if the channels don't fit each other or the
    /// settings, or if the account has the maximum number of outlets. Also fails if the database fails.
    pub async fn create_outlet(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        new: NewOutlet,
    ) -> Result<Outlet, Error> {
        let now = self.clock.now();
        let channels = outlets::require_channels(&new.channels)?;
        new.settings.require_channels(&channels).map_err(|invalid| invalid_outlet(&invalid))?;
        let entropy = self.entropy.as_ref();
        let sid = if channels.contains(&Channel::Email) {
            OutletSid::Mailer(MailerSid::generate(now, entropy))
        } else {
            OutletSid::Messaging(MessagingServiceSid::generate(now, entropy))
        };
        let outlet = Outlet {
            sid,
            account_sid,
            friendly_name: new.friendly_name,
            kind: new.settings.kind(),
            channels,
            content: self.master_keys.seal(&new.settings.to_bytes(), &sid.sealed_owner(), entropy),
            rate: new.rate,
            created_at: now,
            updated_at: now,
        };
        let (row, audit) = (outlet.clone(), self.audit(origin, now));
        self.store
            .write(async move |tx: &mut Write| {
                // Lock the account so that concurrent commands are counted one after another.
                if !tx.lock_account(account_sid).await? {
                    return Err(Error::not_found());
                }
                outlets::require_outlet_capacity(tx.count_outlets(account_sid).await?)?;
                tx.insert_outlet(&row).await?;
                audit.record(tx, about(AuditAction::OutletCreated, &row)).await
            })
            .await?;
        Ok(outlet)
    }

    /// Returns the outlet `sid` of an account, with its settings sealed.
    ///
    /// # Errors
    /// Fails with 20404 if the outlet does not exist. Also fails if the database fails.
    pub async fn outlet(&self, account_sid: AccountSid, sid: OutletSid) -> Result<Outlet, Error> {
        self.store
            .read(async move |db: &mut Read| db.outlet(account_sid, sid).await?.ok_or_else(Error::not_found))
            .await
    }

    /// Returns the outlets of an account, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn outlets(&self, account_sid: AccountSid) -> Result<Vec<Outlet>, Error> {
        self.store.read(async move |db: &mut Read| Ok(db.outlets_of_account(account_sid).await?)).await
    }

    /// Returns the outlets of all accounts, oldest first. For operators.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn all_outlets(&self) -> Result<Vec<Outlet>, Error> {
        self.store.read(async |db: &mut Read| Ok(db.all_outlets().await?)).await
    }

    /// Changes an outlet, and returns it. Messages that are still pending are sent with the new settings.
    ///
    /// # Errors
    /// Fails with 20404 if the outlet does not exist, and with 60306 if the new channels or settings don't fit it. Also
    /// fails if the database fails.
    pub async fn update_outlet(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: OutletSid,
        change: OutletChange,
    ) -> Result<Outlet, Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        let names = change.names();
        let (master_keys, entropy) = (Arc::clone(&self.master_keys), Arc::clone(&self.entropy));
        self.store
            .write(async move |tx: &mut Write| {
                let found = tx.lock_outlet(account_sid, sid).await?;
                let mut outlet = found.ok_or_else(Error::not_found)?;
                let settings = open(&master_keys, &outlet)?;
                if let Some(new_settings) = change.apply(&mut outlet, &settings)? {
                    let owner = sid.sealed_owner();
                    outlet.content = master_keys.seal(&new_settings.to_bytes(), &owner, entropy.as_ref());
                }
                outlet.updated_at = now;
                tx.update_outlet(&outlet).await?;
                let change = about(AuditAction::OutletUpdated, &outlet);
                audit.record(tx, change.detail("changed", &names)).await?;
                Ok(outlet)
            })
            .await
    }

    /// Deletes an outlet. Messages that are still pending fail, with an alert.
    ///
    /// # Errors
    /// Fails with 20404 if the outlet does not exist. Also fails if the database fails.
    pub async fn delete_outlet(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: OutletSid,
    ) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| {
                let outlet = tx.lock_outlet(account_sid, sid).await?.ok_or_else(Error::not_found)?;
                tx.delete_outlet(account_sid, sid).await?;
                audit.record(tx, about(AuditAction::OutletDeleted, &outlet)).await
            })
            .await
    }

    /// Decrypts and parses the settings of an outlet.
    ///
    /// # Errors
    /// Returns an error if the settings cannot be decrypted or parsed.
    pub fn open_outlet(&self, outlet: &Outlet) -> Result<OutletSettings, Error> {
        open(&self.master_keys, outlet)
    }

    /// Sends a test message through an outlet at once, and returns the outcome.
    ///
    /// # Errors
    /// Fails with 60306 if the outlet does not serve `channel`. Also fails if the settings of the outlet cannot be
    /// decrypted, or if the database fails.
    pub async fn test_outlet(
        &self,
        origin: &Origin,
        client: &OutletClient,
        outlet: &Outlet,
        channel: Channel,
        to: Recipient,
    ) -> Result<Outcome, Error> {
        if !outlet.serves(channel) {
            let expected = Expected::new("must be one that the outlet serves");
            return Err(Problem::invalid("Channel", &expected).into());
        }
        let settings = self.open_outlet(outlet)?;
        let now = self.clock.now();
        let attempt_sid = AttemptSid::generate(now, self.entropy.as_ref());
        let outcome =
            client.send(&outlet.version(), &settings, &test_message(channel, to, attempt_sid)).await;
        let result = match &outcome {
            Outcome::Accepted { .. } => "accepted",
            Outcome::Retry { .. } => "retry",
            Outcome::Refused { .. } => "refused",
        };
        let change = about(AuditAction::OutletTested, outlet).detail("result", result);
        let audit = self.audit(origin, now);
        self.store.write(async move |tx: &mut Write| audit.record(tx, change.clone()).await).await?;
        Ok(outcome)
    }
}

/// Decrypts and parses the settings of an outlet.
fn open(master_keys: &MasterKeySource, outlet: &Outlet) -> Result<OutletSettings, Error> {
    let content = master_keys.open(&outlet.content, &outlet.sid.sealed_owner())?;
    OutletSettings::parse(&content).ok_or_else(|| Code::Internal.into())
}

/// Returns a message that tests an outlet.
fn test_message(channel: Channel, to: Recipient, attempt_sid: AttemptSid) -> Message {
    let text = format!("Countersign: this message tests an outlet. {TEST_CODE} is not a code.");
    Message {
        channel,
        to,
        twiml: format!("<Response><Say>{text}</Say></Response>"),
        text,
        subject: "Test of an outlet".to_owned(),
        code: OneTimeCode::from_sealed(TEST_CODE.to_owned()),
        service_name: "Countersign".to_owned(),
        locale: "en".to_owned(),
        attempt_sid,
        validity_seconds: 600,
        from: None,
        send_digits: None,
        key_press_url: None,
        report_url: None,
        mail: MailOptions::default(),
    }
}

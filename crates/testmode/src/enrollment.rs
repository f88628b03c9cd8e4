//! Enrollment of virtual devices.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::device::{NewFactor, Platform, Style};
use app::{App, NewAccessToken};
use domain::access_tokens::{Grant, Ttl};
use domain::{
    AccountSid, EntityPath, FactorType, FriendlyName, Identity, Parameter as _, Secret, ServiceSid,
};
use serde::Deserialize;
use serde_json::Value;

use crate::behavior::{Behavior, Reaction};
use crate::device::{Device, backend};
use crate::error::Error;
use crate::fleet::Fleet;
use crate::request::origin;
use crate::step_log::Subject;

/// Name of a device in its factor, unless the request sets another.
const DEFAULT_FRIENDLY_NAME: &str = "Virtual device";

/// Lifetime of an access token that test mode creates for a device, which spends it at once.
const ENROLLMENT_TTL: Ttl = match Ttl::new(60) {
    Some(ttl) => ttl,
    None => panic!("60 seconds are allowed"),
};

/// The kind of phone that a device imitates.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Imitated {
    #[default]
    Android,
    Ios,
    Web,
}

/// The push provider of a device.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Push {
    Fcm,
    Apn,
    None,
}

/// A device to create.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDevice {
    pub(crate) account_sid: Option<AccountSid>,
    service_sid: ServiceSid,
    identity: String,
    access_token: Option<String>,
    friendly_name: Option<String>,
    #[serde(default)]
    style: Imitated,
    push: Option<Push>,
    metadata: Option<BTreeMap<String, String>>,
    #[serde(rename = "behaviour")]
    behavior: Option<Behavior>,
}

impl NewDevice {
    /// Builds the device of a rule from the rule's members. With a grant and its token, the device spends that token.
    ///
    /// # Errors
    /// Returns error code 60306 if the members are invalid.
    pub(crate) fn from_template(
        template: &Value,
        grant: Option<(&Grant, &Secret<String>)>,
    ) -> Result<Self, Error> {
        let invalid =
            |reason: &dyn std::fmt::Display| Error::invalid(format_args!("the device is invalid: {reason}"));
        let mut members = template.as_object().cloned().ok_or_else(|| invalid(&"it must be an object"))?;
        let reserved = ["account_sid", "service_sid", "identity", "access_token"];
        if let Some(name) = reserved.iter().find(|name| members.contains_key(**name)) {
            return Err(invalid(&format_args!("{name} is taken from the access token")));
        }
        let (service_sid, identity) = match grant {
            Some((grant, _)) => (grant.service_sid.to_string(), grant.identity.as_str().to_owned()),
            // Without an access token, only the other members are checked. These two values are valid, but unused.
            None => (format!("VA{:032}", 0), "template".to_owned()),
        };
        members.insert("service_sid".into(), service_sid.into());
        members.insert("identity".into(), identity.into());
        members.extend(grant.map(|(_, token)| ("access_token".to_owned(), token.expose().as_str().into())));
        serde_json::from_value(Value::Object(members)).map_err(|reason| invalid(&reason))
    }

    const fn style(&self) -> Style {
        match self.style {
            Imitated::Android | Imitated::Web => Style::Android,
            Imitated::Ios => Style::Ios,
        }
    }

    const fn app_id(&self) -> &'static str {
        match self.style {
            Imitated::Android | Imitated::Ios => "countersign.testmode",
            Imitated::Web => "countersign.webphone",
        }
    }

    const fn platform(&self) -> Platform {
        match (self.push, self.style) {
            (Some(Push::Fcm), _) | (None, Imitated::Android) => Platform::Fcm,
            (Some(Push::Apn), _) | (None, Imitated::Ios) => Platform::Apn,
            (Some(Push::None), _) | (None, Imitated::Web) => Platform::None,
        }
    }
}

/// Creates a virtual device: creates an access token unless the request contains one, and enrolls.
///
/// # Errors
/// Returns the error of the API if it refuses the enrollment.
pub(crate) async fn enroll(
    app: Arc<App>,
    fleet: Arc<Fleet>,
    account_sid: AccountSid,
    new: NewDevice,
) -> Result<Arc<Device>, Error> {
    let identity = Identity::from_parameter(&new.identity)
        .map_err(|expected| Error::invalid(format_args!("identity {expected}")))?;
    let name = new.friendly_name.as_deref().unwrap_or(DEFAULT_FRIENDLY_NAME);
    let name = FriendlyName::from_parameter(name)
        .map_err(|expected| Error::invalid(format_args!("friendly_name {expected}")))?;
    let access_token = match &new.access_token {
        Some(text) => text.clone(),
        None => {
            let token = NewAccessToken {
                identity: identity.clone(),
                factor_type: FactorType::Push,
                factor_friendly_name: None,
                ttl: ENROLLMENT_TTL,
            };
            let backend = backend(account_sid)?;
            // This token is for this device, whatever the rules are.
            fleet.rules.except(new.service_sid, &identity);
            let created = app.create_access_token(&origin(), backend, new.service_sid, token).await;
            fleet.rules.end_exception(new.service_sid, &identity);
            created?.1.expose().to_owned()
        }
    };
    let platform = new.platform();
    let factor = NewFactor {
        service_sid: new.service_sid.to_string(),
        identity: identity.as_str().to_owned(),
        access_token: Secret::new(access_token),
        friendly_name: name.as_str().to_owned(),
        notification: (platform != Platform::None).then(|| (platform, registration_token(&app))),
        metadata: new.metadata.clone(),
        app_id: new.app_id().to_owned(),
    };
    let network = fleet.network()?;
    let mut enrollment = network.phone(new.style(), network.clock()).create_factor(&factor).await?;
    let malformed = || Error::Fault("the API returned a malformed SID".to_owned());
    let factor_sid = enrollment.factor_sid.parse().map_err(|_| malformed())?;
    let account_sid = enrollment.account_sid.parse().map_err(|_| malformed())?;
    let path = EntityPath { account_sid, service_sid: new.service_sid, identity };
    let style = new.style();
    let behavior = new.behavior.unwrap_or_else(|| Behavior::always(Reaction::Ignore));
    let device = Arc::new(Device::new((factor_sid, path), style, platform, enrollment.clone(), behavior));
    // Before the factor is verified, no challenge for it can be created, so the device misses none.
    fleet.add(Arc::clone(&device));
    let phone = device.phone(network, network.clock(), Subject::default());
    if let Err(error) = phone.verify_factor(&mut enrollment).await {
        fleet.remove(factor_sid);
        return Err(error.into());
    }
    device.set_enrollment(enrollment);
    Ok(device)
}

/// Returns a random registration token, in the form of those of APNs.
fn registration_token(app: &App) -> String {
    let mut bytes = [0; 32];
    app.entropy().fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Use cases of templates: list, and for operators also create, change and delete.

use domain::audit::{AuditAction, Change};
use domain::templates::{Template, TemplateBody, TemplateChannels, Translation, require_template_capacity};
use domain::{AccountSid, FriendlyName, Locale, Page, PageRequest, Problem, TemplateSid};
use store::{Read, Write};

use crate::App;
use crate::audit::Origin;
use crate::error::Error;

/// The parameters of a new template.
#[derive(Clone, Debug)]
pub struct NewTemplate {
    /// Display name of the template.
    pub friendly_name: FriendlyName,
    /// Channels for which the template is.
    pub channels: TemplateChannels,
    /// Locale of the default translation.
    pub locale: Locale,
    /// Text of the default translation.
    pub text: String,
}

/// The parameters of a translation.
#[derive(Clone, Debug)]
pub struct NewTranslation {
    /// Locale of the text.
    pub locale: Locale,
    /// Text of the translation.
    pub text: String,
    /// Whether an existing translation for the locale is replaced.
    pub replace: bool,
}

/// Parses the text of a translation.
///
/// # Errors
/// Fails with 60306; the message says why the text is invalid.
fn parse_text(text: &str, channels: &TemplateChannels) -> Result<TemplateBody, Problem> {
    TemplateBody::parse(text, channels.as_slice()).map_err(|expected| Problem::invalid("Text", &expected))
}

impl App {
    /// Returns one page of an account's templates. With `friendly_name`, only those with exactly this name are listed.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn templates(
        &self,
        account_sid: AccountSid,
        friendly_name: Option<String>,
        page: PageRequest,
    ) -> Result<Page<Template>, Error> {
        self.store
            .read(async move |db: &mut Read| {
                Ok(db.templates(account_sid, friendly_name.as_deref(), &page).await?)
            })
            .await
    }

    /// Returns the templates of all accounts, oldest first. For operators.
    ///
    /// # Errors
    /// Returns an error if the database fails.
    pub async fn all_templates(&self) -> Result<Vec<Template>, Error> {
        self.store.read(async |db: &mut Read| Ok(db.all_templates().await?)).await
    }

    /// Creates a template with its default translation, and returns it.
    ///
    /// # Errors
    /// Fails with 20404 if the account does not exist, and with 60306 if the text is invalid or the account has the
    /// maximum number of templates. Also fails if the database fails.
    pub async fn create_template(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        new: NewTemplate,
    ) -> Result<Template, Error> {
        let now = self.clock.now();
        let text = parse_text(&new.text, &new.channels)?;
        let translation =
            Translation { locale: new.locale, is_default: true, text, created_at: now, updated_at: now };
        let template = Template {
            sid: TemplateSid::generate(now, self.entropy.as_ref()),
            account_sid,
            friendly_name: new.friendly_name,
            channels: new.channels,
            translations: vec![translation],
            created_at: now,
            updated_at: now,
        };
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                // Lock the account so that concurrent commands are counted one after another.
                if !tx.lock_account(account_sid).await? {
                    return Err(Error::not_found());
                }
                require_template_capacity(tx.count_templates(account_sid).await?)?;
                tx.insert_template(&template).await?;
                let change = Change::new(AuditAction::TemplateCreated, account_sid, template.sid);
                audit.record(tx, change.detail("channels", template.channels.names())).await?;
                Ok(template.clone())
            })
            .await
    }

    /// Adds a translation to a template, or replaces the text of one, and returns the template.
    ///
    /// # Errors
    /// Fails with 20404 if the template does not exist, and with 60306 if the text is invalid or must not replace an
    /// existing one. Also fails if the database fails.
    pub async fn set_translation(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: TemplateSid,
        new: NewTranslation,
    ) -> Result<Template, Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                let found = tx.lock_template(account_sid, sid).await?;
                let mut template = found.ok_or_else(Error::not_found)?;
                template.require_settable(new.locale, new.replace)?;
                let translation = Translation {
                    locale: new.locale,
                    is_default: false,
                    text: parse_text(&new.text, &template.channels)?,
                    created_at: now,
                    updated_at: now,
                };
                template.updated_at = now;
                tx.set_translation(sid, &translation).await?;
                tx.update_template(&template).await?;
                let change = Change::new(AuditAction::TemplateUpdated, account_sid, sid);
                audit.record(tx, change.detail("translation_set", new.locale)).await?;
                tx.template(account_sid, sid).await?.ok_or_else(Error::not_found)
            })
            .await
    }

    /// Removes a translation from a template.
    ///
    /// # Errors
    /// Fails with 20404 if the template does not exist, with 60229 if it has no such translation, and with 60306 if it
    /// is the default one. Also fails if the database fails.
    pub async fn remove_translation(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: TemplateSid,
        locale: Locale,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let audit = self.audit(origin, now);
        self.store
            .write(async move |tx: &mut Write| {
                let found = tx.lock_template(account_sid, sid).await?;
                let mut template = found.ok_or_else(Error::not_found)?;
                template.require_removable(locale)?;
                template.updated_at = now;
                tx.delete_translation(sid, locale).await?;
                tx.update_template(&template).await?;
                let change = Change::new(AuditAction::TemplateUpdated, account_sid, sid);
                audit.record(tx, change.detail("translation_removed", locale)).await
            })
            .await
    }

    /// Deletes a template with its translations.
    ///
    /// # Errors
    /// Fails with 20404 if the template does not exist. Also fails if the database fails.
    pub async fn delete_template(
        &self,
        origin: &Origin,
        account_sid: AccountSid,
        sid: TemplateSid,
    ) -> Result<(), Error> {
        let audit = self.audit(origin, self.clock.now());
        self.store
            .write(async move |tx: &mut Write| match tx.delete_template(account_sid, sid).await? {
                true => audit.record(tx, Change::new(AuditAction::TemplateDeleted, account_sid, sid)).await,
                false => Err(Error::not_found()),
            })
            .await
    }
}

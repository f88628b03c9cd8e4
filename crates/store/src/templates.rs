//! Queries for templates and their translations.

use domain::paging::{Page, PageRequest};
use domain::templates::{Template, TemplateBody, TemplateChannels, Translation};
use domain::{AccountSid, FriendlyName, Locale, TemplateSid};

use crate::error::Error;
use crate::paging::ListQuery;
use crate::read_write::{Read, Write};
use crate::values::{Row, bind, to_hex, to_json};

const COLUMNS: &str = "sid, account_sid, friendly_name, channels, created_at, updated_at";

/// Parses a row of `templates`. The translations are read with [`Read::add_translations`].
fn parse_template(row: &Row) -> Result<Template, Error> {
    Ok(Template {
        sid: row.sid("sid")?,
        account_sid: row.sid("account_sid")?,
        friendly_name: FriendlyName::from_stored(row.text("friendly_name")?),
        channels: TemplateChannels::from_stored(row.json("channels")?),
        translations: Vec::new(),
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    })
}

fn parse_translation(row: &Row) -> Result<(TemplateSid, Translation), Error> {
    let translation = Translation {
        locale: row.keyword::<Locale>("locale")?,
        is_default: row.int("is_default")? != 0,
        text: TemplateBody::from_stored(row.text("text")?),
        created_at: row.timestamp("created_at")?,
        updated_at: row.timestamp("updated_at")?,
    };
    Ok((row.sid("template_sid")?, translation))
}

/// Returns the SQL query that selects one of an account's templates. `lock` is the locking clause, or empty for no
/// lock.
fn select_by_sid(lock: &str) -> String {
    format!("SELECT {COLUMNS} FROM templates WHERE sid = $1 AND account_sid = $2{lock}")
}

impl Read {
    /// Returns an account's template by SID, with its translations, or `None` if the account has no such template.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn template(
        &mut self,
        account_sid: AccountSid,
        sid: TemplateSid,
    ) -> Result<Option<Template>, Error> {
        let mut found =
            self.fetch_optional(select_by_sid(""), bind![sid, account_sid], parse_template).await?;
        self.add_translations(found.as_mut_slice()).await?;
        Ok(found)
    }

    /// Returns the requested page of an account's templates, with their translations. With `friendly_name`, only those
    /// with exactly this name are listed.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn templates(
        &mut self,
        account_sid: AccountSid,
        friendly_name: Option<&str>,
        request: &PageRequest,
    ) -> Result<Page<Template>, Error> {
        let mut list = ListQuery::select(COLUMNS, "templates").filter("account_sid = ?", bind![account_sid]);
        if let Some(name) = friendly_name {
            list = list.filter("friendly_name = ?", bind![name]);
        }
        let mut page = list.page(self, request, parse_template).await?;
        self.add_translations(&mut page.items).await?;
        Ok(page)
    }

    /// Returns the templates of all accounts with their translations, oldest first.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn all_templates(&mut self) -> Result<Vec<Template>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM templates ORDER BY created_at, sid");
        let mut templates = self.fetch_all(sql, bind![], parse_template).await?;
        self.add_translations(&mut templates).await?;
        Ok(templates)
    }

    /// Reads the translations of `templates`, and adds them sorted by locale.
    async fn add_translations(&mut self, templates: &mut [Template]) -> Result<(), Error> {
        if templates.is_empty() {
            return Ok(());
        }
        let among = if self.connection.is_postgres() {
            "= ANY (ARRAY(SELECT CAST(jsonb_array_elements_text(CAST($1 AS JSONB)) AS UUID)))"
        } else {
            "IN (SELECT unhex(value) FROM json_each($1))"
        };
        let sql = format!(
            "SELECT template_sid, locale, is_default, text, created_at, updated_at \
             FROM template_translations WHERE template_sid {among}"
        );
        let sids: Vec<_> = templates.iter().map(|template| to_hex(template.sid)).collect();
        let mut translations = self.fetch_all(sql, bind![to_json(&sids)], parse_translation).await?;
        // Collations differ, so the database does not sort.
        translations.sort_by_key(|(_, translation)| translation.locale);
        for (sid, translation) in translations {
            if let Some(template) = templates.iter_mut().find(|template| template.sid == sid) {
                template.translations.push(translation);
            }
        }
        Ok(())
    }
}

impl Write {
    /// Counts an account's templates.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn count_templates(&mut self, account_sid: AccountSid) -> Result<i64, Error> {
        let sql = "SELECT count(*) AS count FROM templates WHERE account_sid = $1";
        Ok(self.fetch_optional(sql, bind![account_sid], |row| row.int("count")).await?.unwrap_or(0))
    }

    /// Inserts a template with its translations.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the account does not exist, or another error if the database operation fails.
    pub async fn insert_template(&mut self, template: &Template) -> Result<(), Error> {
        let sql = "INSERT INTO templates (sid, account_sid, friendly_name, channels, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let values = bind![
            template.sid,
            template.account_sid,
            template.friendly_name.as_str(),
            to_json(&template.channels.as_slice()),
            template.created_at,
            template.updated_at
        ];
        self.execute(sql, values).await?;
        for translation in &template.translations {
            self.set_translation(template.sid, translation).await?;
        }
        Ok(())
    }

    /// Returns an account's template with its translations, locked against changes by other transactions until this one
    /// ends. Returns `None` if the account has no such template.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn lock_template(
        &mut self,
        account_sid: AccountSid,
        sid: TemplateSid,
    ) -> Result<Option<Template>, Error> {
        let lock = if self.connection.is_postgres() { " FOR NO KEY UPDATE" } else { "" };
        let mut found =
            self.fetch_optional(select_by_sid(lock), bind![sid, account_sid], parse_template).await?;
        self.add_translations(found.as_mut_slice()).await?;
        Ok(found)
    }

    /// Updates a template's mutable fields, without its translations.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn update_template(&mut self, template: &Template) -> Result<(), Error> {
        let sql = "UPDATE templates SET friendly_name = $2, updated_at = $3 WHERE sid = $1";
        let values = bind![template.sid, template.friendly_name.as_str(), template.updated_at];
        self.execute(sql, values).await
    }

    /// Deletes an account's template with its translations. Returns `false` if the account has no such template.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_template(
        &mut self,
        account_sid: AccountSid,
        sid: TemplateSid,
    ) -> Result<bool, Error> {
        let sql = "DELETE FROM templates WHERE sid = $1 AND account_sid = $2 RETURNING sid";
        Ok(self.count_rows(sql, bind![sid, account_sid]).await? > 0)
    }

    /// Inserts a translation of a template, or replaces the text of the one for the same locale. A replaced one keeps
    /// its creation time, and remains the default if it is.
    ///
    /// # Errors
    /// Returns [`Error::ParentGone`] if the template does not exist, or another error if the database operation fails.
    pub async fn set_translation(
        &mut self,
        sid: TemplateSid,
        translation: &Translation,
    ) -> Result<(), Error> {
        let sql = "INSERT INTO template_translations (template_sid, locale, is_default, text, created_at, \
                   updated_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (template_sid, locale) \
                   DO UPDATE SET text = excluded.text, updated_at = excluded.updated_at";
        let values = bind![
            sid,
            translation.locale.as_str(),
            i64::from(translation.is_default),
            translation.text.as_str(),
            translation.created_at,
            translation.updated_at
        ];
        self.execute(sql, values).await
    }

    /// Deletes the translation of a template for a locale. Returns `false` if there is none.
    ///
    /// # Errors
    /// Returns an error if the database operation fails.
    pub async fn delete_translation(&mut self, sid: TemplateSid, locale: Locale) -> Result<bool, Error> {
        let sql = "DELETE FROM template_translations WHERE template_sid = $1 AND locale = $2 RETURNING template_sid";
        Ok(self.count_rows(sql, bind![sid, locale.as_str()]).await? > 0)
    }
}

//! `countersign template`: manages message templates in the database, even while servers are running.

use std::path::PathBuf;

use app::App;
use app::templates::{NewTemplate, NewTranslation};
use clap::{Args, Subcommand};
use domain::templates::TemplateChannels;
use domain::{AccountSid, FriendlyName, Locale, Parameter, Template, TemplateSid};
use terminal::{CliError, say};

use crate::input_file::read_text;
use crate::operator::operator;
use crate::options::StorageOptions;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a template with the text of its default translation
    Create {
        /// Display name, 1 to 64 characters
        #[arg(long, value_parser = parse::<FriendlyName>)]
        name: FriendlyName,
        /// Channels, separated by commas: sms, voice and whatsapp, or email alone
        #[arg(long, value_parser = parse::<TemplateChannels>)]
        channels: TemplateChannels,
        /// Locale of the text, such as en or pt-BR
        #[arg(long, value_parser = parse::<Locale>)]
        locale: Locale,
        #[command(flatten)]
        text: TextArguments,
        /// SID of the account that owns the template; if not set, the oldest account
        #[arg(long)]
        account: Option<AccountSid>,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// List the templates of all accounts
    List {
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Show a template with the texts of all its translations
    Show {
        /// SID of the template
        sid: TemplateSid,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Delete a template with all its translations
    Delete {
        /// SID of the template
        sid: TemplateSid,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Add a translation to a template
    SetTranslation {
        /// SID of the template
        sid: TemplateSid,
        /// Locale of the text, such as en or pt-BR
        #[arg(long, value_parser = parse::<Locale>)]
        locale: Locale,
        #[command(flatten)]
        text: TextArguments,
        /// Replace an existing translation for the locale
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Remove a translation from a template, except the default one
    RemoveTranslation {
        /// SID of the template
        sid: TemplateSid,
        /// Locale of the translation
        #[arg(long, value_parser = parse::<Locale>)]
        locale: Locale,
        #[command(flatten)]
        storage: StorageOptions,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TextArguments {
    /// Text with the variable {{code}}; at most 500 characters, for email 4000
    #[arg(long)]
    text: Option<String>,
    /// File that contains the text
    #[arg(long)]
    file: Option<PathBuf>,
}

impl TextArguments {
    fn read(self) -> Result<String, CliError> {
        match (self.text, self.file) {
            (_, Some(file)) => read_text(&file),
            (text, None) => Ok(text.unwrap_or_default()),
        }
    }
}

/// Parses the value of an option.
fn parse<T: Parameter>(text: &str) -> Result<T, String> {
    T::from_parameter(text).map_err(|expected| expected.to_string())
}

pub(super) async fn run(arguments: Arguments) -> Result<(), CliError> {
    match arguments.command {
        Command::Create { name, channels, locale, text, account, storage } => {
            let new = NewTemplate { friendly_name: name, channels, locale, text: text.read()? };
            storage.with_app(async |app| create(app, account, new).await).await
        }
        Command::List { storage } => storage.with_app(list).await,
        Command::Show { sid, storage } => storage.with_app(async |app| show(&find(app, sid).await?)).await,
        Command::Delete { sid, storage } => storage.with_app(async |app| delete(app, sid).await).await,
        Command::SetTranslation { sid, locale, text, replace, storage } => {
            let new = NewTranslation { locale, text: text.read()?, replace };
            storage.with_app(async |app| set_translation(app, sid, new).await).await
        }
        Command::RemoveTranslation { sid, locale, storage } => {
            storage.with_app(async |app| remove_translation(app, sid, locale).await).await
        }
    }
}

async fn create(app: &App, account: Option<AccountSid>, new: NewTemplate) -> Result<(), CliError> {
    let oldest = app.accounts().await?.first().map(|account| account.sid);
    let account = account
        .or(oldest)
        .ok_or_else(|| CliError::new("there is no account; create one with `countersign account create`"))?;
    show(&app.create_template(&operator(), account, new).await?)
}

async fn list(app: &App) -> Result<(), CliError> {
    for template in app.all_templates().await? {
        let locales: Vec<_> = template.translations.iter().map(|it| it.locale.as_str()).collect();
        let (channels, locales) = (template.channels.names().join(","), locales.join(","));
        say(format_args!("{}  {channels}  {locales}  {}", template.sid, template.friendly_name))?;
    }
    Ok(())
}

async fn delete(app: &App, sid: TemplateSid) -> Result<(), CliError> {
    let template = find(app, sid).await?;
    app.delete_template(&operator(), template.account_sid, sid).await?;
    say(format_args!("deleted {sid}"))
}

async fn set_translation(app: &App, sid: TemplateSid, new: NewTranslation) -> Result<(), CliError> {
    let template = find(app, sid).await?;
    show(&app.set_translation(&operator(), template.account_sid, sid, new).await?)
}

async fn remove_translation(app: &App, sid: TemplateSid, locale: Locale) -> Result<(), CliError> {
    let template = find(app, sid).await?;
    app.remove_translation(&operator(), template.account_sid, sid, locale).await?;
    say(format_args!("removed the translation for {locale} from {sid}"))
}

async fn find(app: &App, sid: TemplateSid) -> Result<Template, CliError> {
    let found = app.all_templates().await?.into_iter().find(|template| template.sid == sid);
    found.ok_or_else(|| CliError::new(format!("there is no {sid}")))
}

/// Prints a template with the texts of all its translations, the default one first.
fn show(template: &Template) -> Result<(), CliError> {
    say(format_args!("template sid  {}", template.sid))?;
    say(format_args!("account sid   {}", template.account_sid))?;
    say(format_args!("name          {}", template.friendly_name))?;
    say(format_args!("channels      {}", template.channels.names().join(", ")))?;
    let (defaults, others): (Vec<_>, Vec<_>) = template.translations.iter().partition(|it| it.is_default);
    for translation in defaults.into_iter().chain(others) {
        say("")?;
        let note = if translation.is_default { " (default)" } else { "" };
        say(format_args!("{}{note}", translation.locale))?;
        for line in translation.text.as_str().lines() {
            say(format_args!("  {line}"))?;
        }
    }
    Ok(())
}

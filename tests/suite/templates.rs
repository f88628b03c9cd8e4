//! Message templates: operators manage them with commands, and backends list them.

use harness::{Auth, Http};
use serde_json::{Value, json};

use crate::world::{World, assert_error, on_every_database};

const TEXT: &str = "{{code}} logs you in to {{friendly_name}}.";

/// Creates a template for text messages and calls with this name, and returns its SID.
fn create(world: &World, name: &str) -> String {
    let channels = ["--channels", "sms,voice", "--locale", "en", "--text", TEXT];
    sid(&world.command(&[&["template", "create", "--name", name], &channels[..]].concat()))
}

/// Returns the SID in the output of a command that shows a template.
fn sid(output: &str) -> String {
    let line = output.lines().find_map(|line| line.strip_prefix("template sid")).unwrap();
    line.trim().to_owned()
}

async fn list(backend: &Http, query: &[(&str, &str)]) -> Vec<Value> {
    let reply = backend.get("/v2/Templates", query).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["templates"].as_array().unwrap().clone()
}

/// Checks that `value` is a date with nanoseconds, such as `2026-01-01T00:00:00.000001000Z`.
#[track_caller]
fn assert_precise_date(value: &Value) {
    let text = value.as_str().unwrap_or_default();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99.999999999Z", "{value}");
}

on_every_database! {
    async fn template_is_listed_with_every_documented_key(world: World) {
        let backend = world.backend();
        assert_eq!(list(&backend, &[]).await, [] as [Value; 0]);
        let sid = create(&world, "Login");
        let german = "{{code}} meldet Sie an.";
        world.command(&["template", "set-translation", &sid, "--locale", "DE", "--text", german]);
        let [template] = &list(&backend, &[]).await[..] else { panic!() };
        let translations = &template["translations"];
        let translation = |locale: &str, is_default: bool, text: &str| {
            let [created, updated] = ["date_created", "date_updated"].map(|name| &translations[locale][name]);
            assert_precise_date(created);
            assert_eq!(created, updated);
            json!({
                "is_default_translation": is_default,
                "status": "approved",
                "locale": locale,
                "text": text,
                "date_updated": updated,
                "date_created": created,
            })
        };
        let expected = json!({
            "sid": sid,
            "account_sid": world.server.account_sid(),
            "friendly_name": "Login",
            "channels": ["sms", "voice"],
            "translations": { "en": translation("en", true, TEXT), "de": translation("de", false, german) },
        });
        assert_eq!(*template, expected);

        // A replaced text keeps the time of its creation.
        world.command(&["template", "set-translation", &sid, "--locale", "de", "--replace", "--text", "{{code}}"]);
        let [replaced] = &list(&backend, &[]).await[..] else { panic!() };
        let (before, after) = (&translations["de"], &replaced["translations"]["de"]);
        assert_eq!((&after["text"], &after["date_created"]), (&json!("{{code}}"), &before["date_created"]));
        assert!(after["date_updated"].as_str() > before["date_updated"].as_str());
        assert_eq!(replaced["translations"]["en"], translations["en"]);
    }
}

on_every_database! {
    async fn templates_are_listed_by_page_and_by_name(world: World) {
        let backend = world.backend();
        let sids = ["Login", "Password", "Login", "login", "Login"].map(|name| create(&world, name));
        let mut next = Some("/v2/Templates?PageSize=2&FriendlyName=Login".to_owned());
        let mut found = Vec::new();
        while let Some(path) = next {
            let page = backend.get(&path, &[]).await.json();
            assert_eq!(page["meta"]["key"], "templates");
            let templates = page["templates"].as_array().unwrap().clone();
            assert!(templates.iter().all(|template| template["translations"]["en"]["text"] == TEXT), "{page}");
            found.extend(templates.iter().map(|template| template["sid"].as_str().unwrap().to_owned()));
            next = page["meta"]["next_page_url"].as_str().map(str::to_owned);
        }
        assert_eq!(found, [0, 2, 4].map(|index| sids[index].clone()));
        let all: Vec<_> = list(&backend, &[]).await.iter().map(|it| it["sid"].as_str().unwrap().to_owned()).collect();
        assert_eq!(all, sids);
        assert_eq!(list(&backend, &[("FriendlyName", "Log")]).await, [] as [Value; 0]);
        assert_eq!(list(&backend, &[("FriendlyName", "")]).await.len(), 5);
        // Backends cannot change templates.
        assert_error(&backend.post("/v2/Templates", &[("FriendlyName", "New")]).await, 405, 20004);
    }
}

on_every_database! {
    async fn operator_creates_shows_changes_and_deletes_templates(world: World) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "Hello {{user}},\r\n{{twilio_message}}\n\n").unwrap();
        let path = file.path().to_str().unwrap();
        let mail = ["template", "create", "--name", "Mail", "--channels", "email", "--locale", "pt-br"];
        let shown = world.command(&[&mail[..], &["--file", path]].concat());
        let sid = sid(&shown);
        for line in ["name          Mail", "channels      email", "pt-BR (default)", "  Hello {{user}},", "  {{twilio_message}}"] {
            assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
        }
        assert_eq!(world.command(&["template", "show", &sid]), shown);
        world.command(&["template", "set-translation", &sid, "--locale", "en", "--text", "{{twilio_code}}"]);
        let listed = world.command(&["template", "list"]);
        assert_eq!(listed, format!("{sid}  email  en,pt-BR  Mail\n"));

        for (arguments, reason) in [
            (&["set-translation", &sid, "--locale", "en", "--text", "{{code}}"][..], "already has a translation for en"),
            (&["set-translation", &sid, "--locale", "fr", "--text", "no variable"], "must contain {{code}}"),
            (&["set-translation", &sid, "--locale", "xx", "--text", "{{code}}"], "must be a known locale"),
            (&["remove-translation", &sid, "--locale", "pt-BR"], "is the default translation"),
            (&["remove-translation", &sid, "--locale", "fr"], "Translation was not found: fr"),
            (&["create", "--name", "x", "--channels", "email,sms", "--locale", "en", "--text", "{{code}}"], "email"),
            (&["create", "--name", "x", "--channels", "sms", "--locale", "en", "--text", "{{twilio_code}}"], "{{code}}"),
            (&["create", "--name", "x", "--channels", "sms", "--locale", "en"], "--text"),
            (&["show", &format!("HJ{}", "0".repeat(32))], "there is no HJ0000"),
        ] {
            let refusal = world.refusal(&[&["template"], arguments].concat());
            assert!(refusal.contains(reason), "{arguments:?}: {refusal}");
        }

        world.command(&["template", "remove-translation", &sid, "--locale", "en"]);
        assert_eq!(world.command(&["template", "show", &sid]), shown);
        assert_eq!(world.command(&["template", "delete", &sid]), format!("deleted {sid}\n"));
        assert!(world.refusal(&["template", "delete", &sid]).contains("there is no"));
        assert_eq!(list(&world.backend(), &[]).await, [] as [Value; 0]);
    }
}

on_every_database! {
    async fn templates_belong_to_one_account(world: World) {
        let made = world.command(&["account", "create", "--name", "Stranger"]);
        let value = |label: &str| {
            let line = made.lines().find_map(|line| line.strip_prefix(label)).unwrap();
            line.trim().to_owned()
        };
        let (account, token) = (value("account sid"), value("auth token"));
        let stranger = Http::new(world.server.url()).auth(Auth::Basic(account.clone(), token));
        create(&world, "Ours");
        assert_eq!(list(&stranger, &[]).await, [] as [Value; 0]);
        let text = ["--locale", "en", "--text", TEXT, "--account", &account];
        world.command(&[&["template", "create", "--name", "Theirs", "--channels", "sms"], &text[..]].concat());
        let names = |templates: Vec<Value>| templates.iter().map(|it| it["friendly_name"].clone()).collect::<Vec<_>>();
        assert_eq!(names(list(&stranger, &[]).await), ["Theirs"]);
        assert_eq!(names(list(&world.backend(), &[]).await), ["Ours"]);
    }
}

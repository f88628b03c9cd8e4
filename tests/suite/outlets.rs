//! Outlets for one-time codes: managed and tested with the command line.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use harness::stand_in::{Authority, MailReaction, MailServer, MailServerOptions, MailTls};
use harness::{Answer, Receiver};
use serde_json::Value;
use tempfile::TempDir;

use crate::operation::value_of;
use crate::world::{BINARY, World, on_every_database};

/// A folder with a file that contains a secret.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new(secret: &str) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.write("secret", &format!("{secret}\n"));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn secret(&self) -> String {
        self.path("secret").to_str().unwrap().to_owned()
    }
}

/// Runs `countersign outlet` with these arguments, and returns its output.
fn outlet(world: &World, arguments: &[&str]) -> String {
    world.command(&[&["outlet"], arguments].concat())
}

/// Runs `countersign outlet` with these arguments, checks that it fails, and returns its error output.
fn refusal(world: &World, arguments: &[&str]) -> String {
    world.refusal(&[&["outlet"], arguments].concat())
}

on_every_database! {
    async fn outlet_can_be_created_shown_changed_tested_and_deleted(world: World) {
        let mut receiver = Receiver::start([Answer::of("200 OK", "", r#"{"id":17}"#)]);
        let files = Files::new("hunter2");
        let url = receiver.at("/send?key={{secret}}&to={{to}}&from={{from}}");
        let made = outlet(&world, &[
            "create", "--kind", "http", "--channel", "whatsapp", "--channel", "sms", "--name", "Gateway", "--rate", "5",
            "--url", &url, "--secret-file", &files.secret(), "--from", "OwlBank", "--id-pointer", "/id",
        ]);
        let sid = value_of("outlet sid", &made);
        assert!(sid.starts_with("MG") && sid.len() == 34, "{made}");
        let target = receiver.at("/send");
        let expected = format!(
            "outlet sid  {sid}\naccount     {}\nname        Gateway\nkind        http\nchannels    sms, whatsapp\n\
             target      {target}\nfrom        OwlBank\nrate        5 per second\n",
            world.server.account_sid(),
        );
        assert_eq!(made, expected);
        assert_eq!(outlet(&world, &["show", &sid]), expected);
        assert_eq!(outlet(&world, &["list"]), format!("{sid}  http     sms, whatsapp  Gateway\n"));

        let tested = outlet(&world, &["test", &sid, "--to", "+4366412345678"]);
        assert_eq!(tested, "accepted, with the ID 17\n");
        let call = receiver.call().await;
        assert_eq!(call.line, "POST /send?key=hunter2&to=%2B4366412345678&from=OwlBank HTTP/1.1");
        let body: Value = serde_json::from_str(&call.body).unwrap();
        assert_eq!((&body["channel"], &body["code"]), (&"sms".into(), &"123456".into()));

        files.write("secret", "other-key");
        let updated = outlet(&world, &[
            "update", &sid, "--name", "Other", "--rate", "0", "--channel", "sms", "--from", "",
            "--secret-file", &files.secret(),
        ]);
        assert!(updated.contains("name        Other\nkind        http\nchannels    sms\ntarget"), "{updated}");
        assert!(!updated.contains("rate") && !updated.contains("from"), "{updated}");
        outlet(&world, &["test", &sid, "--to", "+4366412345678", "--channel", "sms"]);
        let call = receiver.call().await;
        assert_eq!(call.line, "POST /send?key=other-key&to=%2B4366412345678&from= HTTP/1.1");

        assert_eq!(outlet(&world, &["delete", &sid]), format!("deleted {sid}\n"));
        assert_eq!(outlet(&world, &["list"]), "");
        for arguments in [
            &["show", &sid][..],
            &["update", &sid, "--name", "Late"],
            &["delete", &sid],
            &["test", &sid, "--to", "+4366412345678"],
        ] {
            assert!(refusal(&world, arguments).contains(&format!("there is no {sid}")));
        }
    }
}

on_every_database! {
    async fn mail_is_sent_through_an_outlet_of_its_own(world: World) {
        let authority = Authority::new();
        let tls = MailTls::Starttls(std::sync::Arc::new(authority.server(&authority, rustls::ALL_VERSIONS)));
        let login = Some(("codes", "hunter2"));
        let server = MailServer::start(MailServerOptions { tls, login, ..MailServerOptions::default() });
        let files = Files::new("hunter2");
        files.write("ca.pem", &authority.pem());
        let url = format!("smtp://codes@localhost:{}", server.port());
        let made = outlet(&world, &[
            "create", "--kind", "smtp", "--channel", "email", "--name", "Mail", "--url", &url,
            "--secret-file", &files.secret(), "--from", "codes@owl.example", "--from-name", "Owl Bank",
        ]);
        let sid = value_of("outlet sid", &made);
        assert!(sid.starts_with("MD") && sid.len() == 34, "{made}");
        assert!(made.contains("user        codes\nfrom        codes@owl.example\n"), "{made}");
        let ca = files.path("ca.pem");
        let test = ["test", sid.as_str(), "--to", "ann@example.com", "--outlet-ca", ca.to_str().unwrap()];
        assert_eq!(outlet(&world, &test), "accepted, with the ID 4F2A91\n");
        let mails = server.mails();
        assert_eq!((mails.len(), mails[0].is_encrypted), (1, true));
        assert_eq!((mails[0].user.as_deref(), mails[0].to.as_slice()), (Some("codes"), &["ann@example.com".to_owned()][..]));
        assert!(mails[0].content.contains("Subject: Test of an outlet\r\n"), "{}", mails[0].content);

        server.react("RCPT", MailReaction::Reply("550 5.1.1 <ann@example.com> unknown"));
        assert!(refusal(&world, &test).ends_with("refused, error 60603: 550 5.1.1 <…> unknown\n"));
        server.react("RCPT", MailReaction::Reply("451 4.7.1 greylisted"));
        assert!(refusal(&world, &test).ends_with("not accepted now, error 60603: 451 4.7.1 greylisted\n"));
        let untrusted = refusal(&world, &test[..4]);
        assert!(untrusted.contains("invalid peer certificate"), "{untrusted}");
    }
}

on_every_database! {
    async fn two_changes_of_an_outlet_at_once_are_both_kept(world: World) {
        let mut receiver = Receiver::start([Answer::of("200 OK", "", "")]);
        let files = Files::new("secret");
        let url = receiver.at("/send?key={{secret}}&from={{from}}");
        let made = outlet(&world, &[
            "create", "--kind", "http", "--channel", "sms", "--name", "Gateway", "--url", &url,
            "--secret-file", &files.secret(),
        ]);
        let sid = value_of("outlet sid", &made);
        for round in 0..4 {
            let (secret, from) = (format!("secret-{round}"), format!("Owl-{round}"));
            files.write("secret", &secret);
            std::thread::scope(|scope| {
                scope.spawn(|| outlet(&world, &["update", &sid, "--secret-file", &files.secret()]));
                scope.spawn(|| outlet(&world, &["update", &sid, "--from", &from]));
            });
            outlet(&world, &["test", &sid, "--to", "+4366412345678"]);
            assert_eq!(receiver.call().await.line, format!("POST /send?key={secret}&from={from} HTTP/1.1"));
        }
    }
}

#[tokio::test]
async fn unsuitable_settings_of_outlets_are_refused() {
    let world = World::sqlite();
    let files = Files::new("hunter2");
    let secret = files.secret();
    let create = ["create", "--name", "Owl", "--kind"];
    for (arguments, expected) in [
        (&["smpp", "--channel", "sms"][..], "must be smtp, twilio, http or capture"),
        (&["capture", "--channel", "sna", "--path", "/tmp/x"], "must be sms, call, email or whatsapp"),
        (
            &["capture", "--channel", "email", "--channel", "sms", "--path", "/tmp/x"],
            "create an outlet for each",
        ),
        (&["capture", "--channel", "sms", "--path", "x"], "the path must be the absolute path of a file"),
        (&["capture", "--channel", "sms", "--path", "/tmp/x", "--url", "http://x"], "--url is not a setting"),
        (
            &["capture", "--channel", "sms", "--path", "/tmp/x", "--secret-file", &secret],
            "--secret-file is not a setting",
        ),
        (
            &["smtp", "--channel", "sms", "--url", "smtps://x", "--from", "a@example.com"],
            "the channel must not be sms",
        ),
        (
            &["smtp", "--channel", "email", "--url", "smtps://ann:hunter2@", "--from", "a@example.com"],
            "the URL must",
        ),
        (
            &["smtp", "--channel", "email", "--url", "smtps://x", "--from", "a"],
            "the sender must be a mail address",
        ),
        (
            &["twilio", "--channel", "sms", "--provider-account", "AC1", "--from", "+14155552671"],
            "the secret is required",
        ),
        (&["http", "--channel", "sms", "--url", "http://x/{{to}}"], "placeholders only in its query"),
        (
            &["http", "--channel", "sms", "--url", "http://x", "--secret-file", "missing"],
            "missing: No such file",
        ),
        (&["http", "--channel", "sms", "--url", "http://x", "--rate", "0"], "--rate"),
        (
            &[
                "http",
                "--channel",
                "sms",
                "--url",
                "http://x",
                "--account",
                "AC00000000000000000000000000000000",
            ],
            "there is no AC00000000000000000000000000000000",
        ),
    ] {
        let refused = refusal(&world, &[&create[..], arguments].concat());
        assert!(refused.contains(expected) && !refused.contains("hunter2"), "{arguments:?}: {refused}");
    }
    assert_eq!(outlet(&world, &["list"]), "");

    let path = files.path("messages");
    let made = outlet(
        &world,
        &[&create[..], &["capture", "--channel", "sms", "--path", path.to_str().unwrap()]].concat(),
    );
    let sid = value_of("outlet sid", &made);
    for (arguments, expected) in [
        (&["update", &sid, "--channel", "email"][..], "can't change from or to email"),
        (&["update", &sid, "--url", "http://x"], "--url is not a setting"),
        (&["update", "MG", "--name", "x"], "invalid value 'MG'"),
        (&["test", &sid, "--to", "ann@example.com"], "--to must be a phone number"),
        (&["test", &sid, "--to", "+4366412345678", "--channel", "call"], "one that the outlet serves"),
        (&["test", &sid, "--to", "0664"], "must be a phone number"),
    ] {
        let refused = refusal(&world, arguments);
        assert!(refused.contains(expected), "{arguments:?}: {refused}");
    }
    assert!(!path.exists());
    assert_eq!(outlet(&world, &["test", &sid, "--to", "+4366412345678"]), "accepted\n");
    let line: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(line["to"], "+4366412345678");
}

#[tokio::test]
async fn secret_of_an_outlet_can_be_piped_in() {
    let mut receiver = Receiver::start([Answer::ok()]);
    let world = World::sqlite();
    let url = receiver.at("/send");
    let arguments = [
        "outlet",
        "create",
        "--kind",
        "http",
        "--channel",
        "sms",
        "--name",
        "Owl",
        "--auth",
        "bearer",
        "--secret-file",
        "-",
        "--url",
        &url,
    ];
    let mut command = world.storage.command(BINARY, &arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hunter2\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let sid = value_of("outlet sid", &String::from_utf8(output.stdout).unwrap());
    outlet(&world, &["test", &sid, "--to", "+4366412345678"]);
    assert_eq!(receiver.call().await.header("authorization"), "Bearer hunter2");
}

#[tokio::test]
async fn account_has_a_maximum_number_of_outlets() {
    let world = World::sqlite();
    let create =
        ["create", "--kind", "capture", "--channel", "sms", "--name", "Owl", "--path", "/tmp/messages"];
    for _ in 0..50 {
        outlet(&world, &create);
    }
    let refused = refusal(&world, &create);
    assert!(refused.contains("must not be added to an account that has 50 outlets"), "{refused}");
    let other = value_of("account sid", &world.command(&["account", "create"]));
    outlet(&world, &[&create[..], &["--account", &other]].concat());
}

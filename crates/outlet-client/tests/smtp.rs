//! Tests outlets that are mail servers.

use std::sync::Arc;
use std::time::Duration;

use harness::stand_in::{Authority, MailReaction, MailServer, MailServerOptions, MailTls};
use outlet_client::{Outcome, OutletClient, OutletParameters, OutletSettings, SmtpParameters};

use crate::fixtures::{LONG_TIMEOUT, create_client, describe, mail, settings};

fn smtp(url: &str) -> OutletSettings {
    settings(OutletParameters::Smtp(SmtpParameters {
        url: url.to_owned(),
        from: "codes@owl.example".to_owned(),
        from_name: Some("Owl Bank".to_owned()),
        ..SmtpParameters::default()
    }))
}

fn plain_settings(server: &MailServer) -> OutletSettings {
    smtp(&format!("smtp://localhost:{}?tls=none", server.port()))
}

async fn send(client: &OutletClient, settings: &OutletSettings) -> String {
    describe(&client.send("MD1", settings, &mail()).await)
}

fn server_tls(authority: &Authority) -> Arc<rustls::ServerConfig> {
    Arc::new(authority.server(authority, rustls::ALL_VERSIONS))
}

const LOGIN: Option<(&str, &str)> = Some(("ann@owl.example", "hunter2: ü"));
const ENCODED_LOGIN: &str = "ann%40owl.example:hunter2%3A%20%C3%BC";

#[tokio::test]
async fn mail_is_delivered_with_its_envelope() {
    let server = MailServer::start(MailServerOptions::default());
    let client = create_client(None, LONG_TIMEOUT);
    let outcome = client.send("MD1", &plain_settings(&server), &mail()).await;
    assert_eq!(outcome, Outcome::Accepted { provider_id: Some("4F2A91".to_owned()) });
    let mails = server.mails();
    let [mail] = mails.as_slice() else { panic!("{mails:?}") };
    assert_eq!((mail.from.as_str(), mail.hello.as_str()), ("codes@owl.example", "owl.example"));
    assert_eq!((mail.to.as_slice(), mail.user.as_deref()), (&["ann@example.com".to_owned()][..], None));
    assert!(!mail.is_encrypted);
    for part in [
        "From: \"Owl Bank\" <codes@owl.example>\r\n",
        "To: ann@example.com\r\n",
        "Subject: Your code\r\n",
        "Message-ID: <VL11111111111111111111111111111111@owl.example>\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "Owl Bank: 918273 is your code.\r\n",
        "<p>Owl Bank: 918273 is your code.</p>\r\n",
    ] {
        assert!(mail.content.contains(part), "{part}\n{}", mail.content);
    }
}

#[tokio::test]
async fn connections_are_encrypted_and_authenticated() {
    let authority = Authority::new();
    let client = create_client(Some(&authority), LONG_TIMEOUT);
    let tls = server_tls(&authority);
    for (tls, mechanisms, url) in [
        (MailTls::Implicit(tls.clone()), "PLAIN LOGIN", "smtps://LOGIN@localhost:PORT"),
        (MailTls::Implicit(tls.clone()), "LOGIN", "smtps://LOGIN@localhost:PORT"),
        (MailTls::Starttls(tls.clone()), "PLAIN", "smtp://LOGIN@localhost:PORT"),
        (MailTls::Starttls(tls), "LOGIN", "smtp://LOGIN@127.0.0.1:PORT?tls=required"),
        (MailTls::None, "PLAIN", "smtp://LOGIN@localhost:PORT?tls=none"),
    ] {
        let is_encrypted = !matches!(tls, MailTls::None);
        let server = MailServer::start(MailServerOptions { tls, login: LOGIN, mechanisms });
        let settings = smtp(&url.replace("LOGIN", ENCODED_LOGIN).replace("PORT", &server.port().to_string()));
        let outcome = client.send(url, &settings, &mail()).await;
        assert_eq!(describe(&outcome), "accepted Some(\"4F2A91\")", "{url} {mechanisms}");
        let mails = server.mails();
        assert_eq!(
            (mails[0].user.as_deref(), mails[0].is_encrypted),
            (Some("ann@owl.example"), is_encrypted)
        );
    }
}

#[tokio::test]
async fn opportunistic_encryption_is_used_if_it_is_offered() {
    let authority = Authority::new();
    let client = create_client(Some(&authority), LONG_TIMEOUT);
    for tls in [MailTls::None, MailTls::Starttls(server_tls(&authority))] {
        let is_offered = matches!(tls, MailTls::Starttls(_));
        let server = MailServer::start(MailServerOptions { tls, ..MailServerOptions::default() });
        let settings = smtp(&format!("smtp://localhost:{}?tls=opportunistic", server.port()));
        let key = if is_offered { "MD1" } else { "MD2" };
        client.send(key, &settings, &mail()).await;
        assert_eq!(server.mails()[0].is_encrypted, is_offered);
    }
}

#[tokio::test]
async fn nothing_is_sent_without_required_encryption() {
    let server = MailServer::start(MailServerOptions { login: LOGIN, ..MailServerOptions::default() });
    let settings = smtp(&format!("smtp://{ENCODED_LOGIN}@localhost:{}", server.port()));
    let outcome = send(&create_client(None, LONG_TIMEOUT), &settings).await;
    assert_eq!(outcome, "refused 60603 cannot connect: STARTTLS is not supported on this server");
    assert_eq!(server.commands(), ["EHLO"]);
}

#[tokio::test]
async fn server_certificates_are_checked() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = server_tls(&authority);
    for (tls, url) in [
        (MailTls::Implicit(tls.clone()), "smtps://localhost:PORT"),
        (MailTls::Starttls(tls), "smtp://localhost:PORT"),
    ] {
        let server = MailServer::start(MailServerOptions { tls, ..MailServerOptions::default() });
        let settings = smtp(&url.replace("PORT", &server.port().to_string()));
        let outcome = send(&create_client(Some(&other), LONG_TIMEOUT), &settings).await;
        assert_eq!(outcome, "retry None 60603 cannot connect: invalid peer certificate: UnknownIssuer");
        assert!(server.mails().is_empty());
    }
}

#[tokio::test]
async fn replies_from_before_the_encryption_do_not_count() {
    let authority = Authority::new();
    let tls = MailTls::Starttls(server_tls(&authority));
    let server = MailServer::start(MailServerOptions { tls, ..MailServerOptions::default() });
    server.react("STARTTLS", MailReaction::Reply("220 go ahead\r\n250-mail.test\r\n250 AUTH PLAIN"));
    let settings = smtp(&format!("smtp://localhost:{}", server.port()));
    let outcome = send(&create_client(Some(&authority), LONG_TIMEOUT), &settings).await;
    assert!(outcome.starts_with("retry None 60603 cannot connect: "), "{outcome}");
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn replies_decide_about_another_attempt() {
    for (verb, reply, expected) in [
        ("CONNECT", "421 too many connections", "retry None 60603 421 too many connections"),
        ("CONNECT", "554 no service", "refused 60603 554 no service"),
        ("MAIL", "530 5.7.0 authenticate first", "refused 60604 530 5.7.0 authenticate first"),
        ("RCPT", "450 4.2.1 mailbox busy", "retry None 60603 450 4.2.1 mailbox busy"),
        ("RCPT", "550-no such user\r\n550 <ANN@example.com>", "refused 60603 550 no such user <…>"),
        ("DATA", "451 later", "retry None 60603 451 later"),
        (".", "554 spam: 918273 is your code", "refused 60603 554 spam: … is …"),
        ("RCPT", "what?", "retry None 60603 cannot send: "),
    ] {
        let server = MailServer::start(MailServerOptions::default());
        server.react(verb, MailReaction::Reply(reply));
        let client = create_client(None, LONG_TIMEOUT);
        let outcome = client.send("MD1", &plain_settings(&server), &mail()).await;
        let found = match outcome {
            Outcome::Retry { code, reason, .. } => format!("retry None {code} {reason}"),
            Outcome::Refused { code, reason } => format!("refused {code} {reason}"),
            Outcome::Accepted { .. } => panic!("{verb} {reply}"),
        };
        let is_expected =
            if expected.ends_with(": ") { found.starts_with(expected) } else { found == expected };
        assert!(is_expected, "{verb} {reply}: {found}");
        // The failure does not affect the next mail.
        assert_eq!(send(&client, &plain_settings(&server)).await, "accepted Some(\"4F2A91\")");
    }
}

#[tokio::test]
async fn wrong_password_is_refused_and_not_repeated() {
    let server = MailServer::start(MailServerOptions { login: LOGIN, ..MailServerOptions::default() });
    let url = |login: &str| format!("smtp://{login}@localhost:{}?tls=none", server.port());
    let client = create_client(None, LONG_TIMEOUT);
    let outcome = send(&client, &smtp(&url("ann%40owl.example:wrong"))).await;
    assert_eq!(outcome, "refused 60604 535 5.7.8 authentication failed");
    server.react("AUTH", MailReaction::Reply("454 4.7.0 try later, hunter2: ü"));
    let outcome = client.send("MD2", &smtp(&url(ENCODED_LOGIN)), &mail()).await;
    assert_eq!(describe(&outcome), "retry None 60604 454 4.7.0 try later, …");
    let without_auth = MailServer::start(MailServerOptions::default());
    let settings = smtp(&format!("smtp://{ENCODED_LOGIN}@localhost:{}?tls=none", without_auth.port()));
    let outcome = client.send("MD3", &settings, &mail()).await;
    let reason = "cannot authenticate: No compatible authentication mechanism was found";
    assert_eq!(describe(&outcome), format!("refused 60604 {reason}"));
}

#[tokio::test]
async fn silent_and_unreachable_servers_are_tried_again() {
    for verb in ["CONNECT", "RCPT", "."] {
        let server = MailServer::start(MailServerOptions::default());
        let settings = plain_settings(&server);
        server.react(verb, MailReaction::Silence);
        // The last mail of this client must be sent within this time.
        let client = create_client(None, Duration::from_secs(3));
        assert_eq!(
            send(&client, &settings).await,
            "retry None 60603 timed out waiting for the mail server",
            "{verb}"
        );
        // The connection whose reply is outstanding is not used for another mail.
        let client_of_next = create_client(None, LONG_TIMEOUT);
        server.react(verb, MailReaction::HangUp);
        let outcome = send(&client_of_next, &settings).await;
        assert!(outcome.starts_with("retry None 60603 cannot "), "{verb}: {outcome}");
        assert!(server.mails().is_empty());
        assert_eq!(send(&client, &settings).await, "accepted Some(\"4F2A91\")");
        assert_eq!(server.mails()[0].connection, server.connections());
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for url in [format!("smtp://127.0.0.1:{port}"), format!("smtps://127.0.0.1:{port}")] {
        let outcome = send(&create_client(None, LONG_TIMEOUT), &smtp(&url)).await;
        assert_eq!(outcome, "retry None 60603 cannot connect: Connection refused (os error 111)");
    }
}

#[tokio::test]
async fn connection_is_used_again_by_the_same_version_of_an_outlet() {
    let server = MailServer::start(MailServerOptions::default());
    let (client, settings) = (create_client(None, LONG_TIMEOUT), plain_settings(&server));
    for _ in 0..3 {
        assert_eq!(send(&client, &settings).await, "accepted Some(\"4F2A91\")");
    }
    assert_eq!(server.connections(), 1);
    // A closed connection is noticed before the mail is sent.
    server.react("NOOP", MailReaction::HangUp);
    assert_eq!(send(&client, &settings).await, "accepted Some(\"4F2A91\")");
    assert_eq!(server.connections(), 2);
    client.send("MD1 of another version", &settings, &mail()).await;
    assert_eq!((server.connections(), server.mails().len()), (3, 5));
    // A connection that no longer answers is replaced within the attempt.
    server.react("NOOP", MailReaction::Silence);
    assert_eq!(send(&client, &settings).await, "accepted Some(\"4F2A91\")");
    assert_eq!((server.connections(), server.mails().len()), (4, 6));
}

#[test]
fn client_works_on_the_thread_of_the_delivery_worker() {
    let server = MailServer::start(MailServerOptions::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let (client, settings) = (create_client(None, LONG_TIMEOUT), plain_settings(&server));
    let outcome = local.block_on(&runtime, async move {
        tokio::task::spawn_local(async move { send(&client, &settings).await }).await.unwrap()
    });
    assert_eq!(outcome, "accepted Some(\"4F2A91\")");
}

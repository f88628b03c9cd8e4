//! The browser phone's files, and the QR code of an enrollment link. `tests/browser/phone.py` tests the page itself.

use std::process::Command;

use domain::{Identity, Parameter as _};
use enrollment_link::EnrollmentLink;
use harness::{Http, Reply, remove_server_variables};

use crate::world::{BINARY, World, assert_error, created};

const PATHS: [&str; 5] =
    ["/phone", "/phone/", "/phone/app.js", "/phone/manifest.webmanifest", "/phone/icon-192.png"];

fn anyone(world: &World) -> Http {
    Http::new(world.server.url())
}

/// Checks the headers that every response of the phone has.
#[track_caller]
fn assert_restricted(reply: &Reply) {
    let policy = reply.header("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types countersign-phone",
    ] {
        assert!(policy.split("; ").any(|found| found == part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(reply.header("x-frame-options"), Some("DENY"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("cross-origin-opener-policy"), Some("same-origin"));
    assert_eq!(reply.header("access-control-allow-origin"), None, "no other site may read it");
}

#[tokio::test]
async fn phone_is_served_only_on_request() {
    let world = World::ephemeral();
    for path in PATHS {
        assert_error(&anyone(&world).get(path, &[]).await, 404, 20404);
    }
    let world = World::ephemeral_with(&["--browser-phone"]);
    for (path, content_type) in [
        ("/phone/", "text/html; charset=utf-8"),
        ("/phone/app.js", "text/javascript; charset=utf-8"),
        ("/phone/sw.js", "text/javascript; charset=utf-8"),
        ("/phone/phone.css", "text/css; charset=utf-8"),
        ("/phone/manifest.webmanifest", "application/manifest+json"),
        ("/phone/icon-192.png", "image/png"),
    ] {
        let reply = anyone(&world).get(path, &[]).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(content_type)), "{path}");
        assert_restricted(&reply);
    }
}

#[tokio::test]
async fn phone_refuses_unknown_files_and_methods() {
    let world = World::ephemeral_with(&["--browser-phone"]);
    let redirect = anyone(&world).get("/phone", &[]).await;
    assert_eq!((redirect.status, redirect.header("location")), (308, Some("phone/")));
    for path in ["/phone/index.html", "/phone/app.js/", "/phone/package.json"] {
        let reply = anyone(&world).get(path, &[]).await;
        assert_eq!(reply.status, 404, "{path}");
    }
    let reply = anyone(&world).post("/phone/app.js", &[]).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_restricted(&reply);
}

#[tokio::test]
async fn browser_keeps_a_file_until_it_changes() {
    let world = World::ephemeral_with(&["--browser-phone"]);
    let reply = anyone(&world).get("/phone/app.js", &[]).await;
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    let tag = reply.header("etag").unwrap().to_owned();
    for (known, status) in [(tag.as_str(), 304), (&format!("W/{tag}"), 304), ("\"other\"", 200)] {
        let again = anyone(&world).header("if-none-match", known).get("/phone/app.js", &[]).await;
        assert_eq!(again.status, status, "{known}");
        assert_eq!(again.header("etag"), Some(tag.as_str()));
        assert_eq!(again.text.is_empty(), status == 304);
        assert_restricted(&again);
    }
}

#[tokio::test]
async fn qr_code_is_that_of_the_enrollment_link() {
    for (arguments, url) in [
        (&[][..], None),
        (&["--public-url", "https://verify.example.com"], Some("https://verify.example.com")),
    ] {
        let world = World::ephemeral_with(arguments);
        let (service, identity) = (world.service().await, "user-0001");
        let form = [("Identity", identity), ("FactorType", "push"), ("Ttl", "300")];
        let reply = world.backend().post(&format!("/v2/Services/{service}/AccessTokens"), &form).await;
        let token = created(&reply);
        let sid = token["sid"].as_str().unwrap();
        let path = format!("/countersign/v1/Services/{service}/AccessTokens/{sid}/QrCode");
        let reply = world.backend().get(&path, &[]).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("image/svg+xml")));
        assert_eq!(reply.header("cache-control"), Some("no-store"), "the code is a secret");
        let link = EnrollmentLink::new(
            url.unwrap_or(world.server.url()),
            token["token"].as_str().unwrap(),
            service.parse().unwrap(),
            &Identity::from_parameter(identity).unwrap(),
        );
        assert_eq!(reply.text, link.qr_code().unwrap().svg());
        // Once the token is used, there is no code anymore, as there is no token.
        let used = token["token"].as_str().unwrap().to_owned();
        let new = device::NewFactor {
            access_token: domain::Secret::new(used),
            ..world.new_factor(&service, identity).await
        };
        world.phone(device::Style::Ios).enroll(&new).await.unwrap();
        assert_error(&world.backend().get(&path, &[]).await, 404, 20404);
    }
}

#[test]
fn command_prints_the_link_and_its_qr_code() {
    let service = "VA22222222222222222222222222222222";
    let mut command = Command::new(BINARY);
    remove_server_variables(&mut command);
    command.args(["device", "qr", "--url", "https://verify.example.com", "--service", service]);
    command.args(["--identity", "user-0001", "--token", "a.b.c"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let identity = Identity::from_parameter("user-0001").unwrap();
    let link =
        EnrollmentLink::new("https://verify.example.com", "a.b.c", service.parse().unwrap(), &identity);
    let mut expected = link.qr_code().unwrap().terminal_lines();
    expected.push(link.expose().to_owned());
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

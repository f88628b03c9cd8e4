//! Paths with invalid or unknown identities and SIDs.

use super::{CHALLENGES, ENTITIES, FACTORS, SERVICE, TOKENS, WEBHOOKS, invalid, not_found, post};
use crate::fixture::{Fixture, IDENTITY};
use crate::world::World;

const SERVICE_STREAM: &str = "/countersign/v1/Services/{ServiceSid}/Events";

#[tokio::test]
async fn invalid_identity_in_a_path_gets_400_on_factor_creation_and_404_elsewhere() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let before = world.everything().await;
    for identity in [
        "seven-7",
        &"x".repeat(65),
        "with%20space",
        "%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC%C3%BC",
        "user@owl.test",
        "user%2F0001",
        "%00%00%00%00%00%00%00%00",
        "%FF%FE%FF%FE%FF%FE%FF%FE",
    ] {
        let entity = format!("/v2/Services/{}/Entities/{identity}", fixture.service);
        let reply = post(&world.backend(), &format!("{entity}/Factors"), &fixture.form(FACTORS)).await;
        invalid("Identity").assert(&reply, identity);
        for path in [entity.clone(), format!("{entity}/Factors"), format!("{entity}/Challenges")] {
            not_found().assert(&world.backend().get(&path, &[]).await, &path);
        }
        let reply = post(&world.backend(), &format!("{entity}/Challenges"), &fixture.form(CHALLENGES)).await;
        not_found().assert(&reply, identity);
    }
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn every_route_returns_404_for_unknown_resources() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let before = world.everything().await;
    let other = world.service().await;
    let zeros = "0".repeat(32);
    for route in api::ROUTES.iter().filter(|route| route.path.contains('{')) {
        let path = fixture.path(route.path);
        let sid = path.rsplit('/').next().unwrap();
        let mut paths = Vec::new();
        let services = [
            format!("VA{zeros}"),
            other.clone(),
            format!("AC{zeros}"),
            fixture.service.to_lowercase(),
            fixture.service[..33].to_owned(),
            format!("{}0", fixture.service),
            "VA*".to_owned(),
        ];
        if route.path.contains("{ServiceSid}") {
            paths.extend(services.iter().map(|service| path.replace(&fixture.service, service)));
        }
        // Creating a factor creates its entity, so the identity need not exist.
        if route.path.contains("{Identity}") && (route.method, route.path) != ("POST", FACTORS) {
            paths.extend([path.replace(IDENTITY, "user-9999"), path.replace(IDENTITY, "USER-0001")]);
        }
        if route.path.ends_with("{Sid}") {
            for unknown in [
                format!("{}{}", &sid[..4], &zeros[2..]),
                format!("{}{zeros}", &sid[..2]),
                format!("AC{zeros}"),
                sid.to_lowercase(),
                format!("{sid}0"),
                "nothing".to_owned(),
                format!("{sid}.xml"),
            ] {
                paths.push(path.replace(sid, &unknown));
            }
        }
        for path in paths {
            let creates = (route.method, route.path) == ("POST", FACTORS)
                || (route.method, route.path) == ("POST", ENTITIES);
            let is_shared = matches!(route.path, SERVICE | TOKENS | ENTITIES | WEBHOOKS);
            // Another service of the account has these routes too.
            let is_shared = is_shared || route.path.contains("/Passkeys/") || route.path == SERVICE_STREAM;
            let is_shared = is_shared
                || ["/Verifications", "/RateLimits", "/MessagingConfigurations"]
                    .iter()
                    .any(|end| route.path.ends_with(end));
            if path.contains(&other) && (creates || is_shared) {
                continue;
            }
            let reply = match route.method {
                "GET" => world.backend().get(&path, &[]).await,
                "DELETE" => world.backend().delete(&path, &[]).await,
                _ => match fixture.json(route.path) {
                    Some(body) => world.backend().post_json(&path, &body).await,
                    None => post(&world.backend(), &path, &fixture.form(route.path)).await,
                },
            };
            not_found().assert(&reply, &format!("{} {path}", route.method));
            let named = path.strip_prefix("/v2").or_else(|| path.strip_prefix("/v1")).unwrap_or(&path);
            assert_eq!(reply.json()["message"], format!("The requested resource {named} was not found"));
        }
    }
    assert_eq!(world.backend().delete(&format!("/v2/Services/{other}"), &[]).await.status, 204);
    assert_eq!(world.everything().await, before);
}

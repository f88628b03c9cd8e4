//! The query parameters of lists.

use harness::Http;
use serde_json::json;

use super::{CHALLENGES, ENTITIES, FACTORS, WEBHOOKS, invalid, refused};
use crate::fixture::Fixture;
use crate::world::World;

#[tokio::test]
async fn invalid_list_parameters_are_refused() {
    let world = World::ephemeral();
    let fixture = Fixture::create(&world).await;
    let too_large = refused(400, 20007, "Page size too large");
    let mut rows = vec![
        ("PageSize=1001", too_large.clone()),
        ("PageSize=99999999999999999999999", too_large),
        ("PageSize=10&PageSize=x", invalid("PageSize")),
        ("Page=1&Page=2", invalid("Page")),
        ("PageSize=%zz", invalid("PageSize")),
        ("Page=%ff", invalid("Page")),
        ("Page=abc", invalid("Page")),
        ("Page=-1", invalid("Page")),
        ("pageToken=nonsense", invalid("PageToken")),
        ("Nonsense=%00", invalid("Nonsense")),
    ];
    for size in [
        "PageSize=0",
        "PageSize=00",
        "PageSize=-1",
        "PageSize=abc",
        "PageSize=1.5",
        "PageSize=+",
        "PageSize=0x10",
        "PageSize=1e2",
        "PageSize=%2B5",
        "PageSize=%D9%A1",
    ] {
        rows.push((size, invalid("PageSize")));
    }
    let no_way = format!("PageToken=PX{}", "0".repeat(48));
    let short = format!("PageToken=PA{}", "0".repeat(47));
    let long = format!("PageToken=PA{}", "0".repeat(49));
    let no_hex = format!("PageToken=PA{}g", "0".repeat(47));
    let signed = format!("PageToken=PA%2B{}", "0".repeat(47));
    for token in [
        "PageToken=nonsense",
        "PageToken=P",
        "PageToken=%C3%BC%C3%BC",
        &no_way,
        &short,
        &long,
        &no_hex,
        &signed,
    ] {
        rows.push((token, invalid("PageToken")));
    }
    let keys = "/2010-04-01/Accounts/{AccountSid}/Keys";
    let limits = "/v2/Services/{ServiceSid}/RateLimits";
    let buckets = "/v2/Services/{ServiceSid}/RateLimits/{RateLimitSid}/Buckets";
    let configurations = "/v2/Services/{ServiceSid}/MessagingConfigurations";
    let others = [
        WEBHOOKS,
        limits,
        buckets,
        configurations,
        "/v1/Credentials",
        "/v1/Alerts",
        keys,
        "/v2/Templates",
        "/v2/Attempts",
    ];
    for pattern in ["/v2/Services", ENTITIES, FACTORS, CHALLENGES].into_iter().chain(others) {
        for (query, refusal) in &rows {
            let path = format!("{}?{query}", fixture.path(pattern));
            refusal.assert(&world.backend().get(&path, &[]).await, &path);
        }
    }
    for (query, refusal) in [
        ("Order=ASC", invalid("Order")),
        ("Order=newest", invalid("Order")),
        ("Order=asc&Order=desc", invalid("Order")),
        ("Status=done", invalid("Status")),
        ("Status=Pending", invalid("Status")),
        ("Status=pending&status=expired", invalid("Status")),
        ("FactorSid=YF1", invalid("FactorSid")),
        ("FactorSid=YC0123456789abcdef0123456789abcdef", invalid("FactorSid")),
    ] {
        let path = format!("{}?{query}", fixture.path(CHALLENGES));
        refusal.assert(&world.backend().get(&path, &[]).await, &path);
        let device = Http::new(world.server.url()).auth(fixture.device.auth());
        refusal.assert(&device.get(&path, &[]).await, &path);
    }
    // An empty parameter counts as absent, and a filter without matches returns an empty list.
    for query in ["PageSize=&Page=&PageToken=&Order=&Status=&FactorSid=", "pAGEsIZE=7&ORDER=desc"] {
        let reply = world.backend().get(&format!("{}?{query}", fixture.path(CHALLENGES)), &[]).await;
        // The fixture has a challenge of each type.
        assert_eq!(reply.json()["challenges"].as_array().map(Vec::len), Some(3), "{reply:?}");
    }
    let unknown = format!("{}?FactorSid=YF03{}", fixture.path(CHALLENGES), "0".repeat(30));
    assert_eq!(world.backend().get(&unknown, &[]).await.json()["challenges"], json!([]));
}

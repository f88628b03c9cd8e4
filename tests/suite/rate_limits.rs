//! Rate limits on verifications and their buckets.

use domain::rate_limits::{MAX_BUCKETS, MAX_RATE_LIMITS};
use harness::{Http, Reply};
use serde_json::{Value, json};

use crate::world::{World, assert_error, created, on_every_database};

/// Checks that a parameter of a bucket is refused with the code and the message of verifications.
#[track_caller]
fn assert_invalid(reply: &Reply, parameter: &str) {
    assert_error(reply, 400, 60200);
    assert_eq!(reply.json()["message"], format!("Invalid parameter: {parameter}"));
}

/// Creates a rate limit with a bucket of 4 verifications a minute. Returns both.
async fn limit_with_bucket(backend: &Http, limits: &str) -> (Value, Value) {
    let limit = created(&backend.post(limits, &[("UniqueName", "end_user_ip")]).await);
    let buckets = format!("{limits}/end_user_ip/Buckets");
    let bucket = created(&backend.post(&buckets, &[("Max", "4"), ("Interval", "60")]).await);
    (limit, bucket)
}

on_every_database! {
    async fn rate_limit_and_bucket_are_returned_with_every_documented_key(world: World) {
        let backend = world.backend();
        let service = world.service().await;
        let limits = format!("/v2/Services/{service}/RateLimits");
        let (limit, bucket) = limit_with_bucket(&backend, &limits).await;
        let (limit_sid, bucket_sid) = (limit["sid"].as_str().unwrap(), bucket["sid"].as_str().unwrap());
        let url = format!("{}{limits}/{limit_sid}", world.server.url());
        let expected = json!({
            "sid": limit_sid,
            "service_sid": service,
            "account_sid": world.server.account_sid(),
            "unique_name": "end_user_ip",
            "description": null,
            "date_created": limit["date_created"],
            "date_updated": limit["date_created"],
            "url": url,
            "links": { "buckets": format!("{url}/Buckets") },
        });
        assert_eq!(limit, expected);
        let expected = json!({
            "sid": bucket_sid,
            "rate_limit_sid": limit_sid,
            "service_sid": service,
            "account_sid": world.server.account_sid(),
            "max": 4,
            "interval": 60,
            "date_created": bucket["date_created"],
            "date_updated": bucket["date_created"],
            "url": format!("{url}/Buckets/{bucket_sid}"),
        });
        assert_eq!(bucket, expected);
        assert!(limit_sid.starts_with("RK") && bucket_sid.starts_with("BL"), "{limit_sid} {bucket_sid}");

        // The unique name stands for the SID.
        for name in [limit_sid, "end_user_ip"] {
            assert_eq!(backend.get(&format!("{limits}/{name}"), &[]).await.json(), limit, "{name}");
            let buckets = format!("{limits}/{name}/Buckets");
            assert_eq!(backend.get(&buckets, &[]).await.json()["buckets"], json!([bucket]), "{name}");
            let path = format!("{buckets}/{bucket_sid}");
            assert_eq!(backend.get(&path, &[]).await.json(), bucket, "{name}");
        }
        assert_eq!(backend.get(&limits, &[]).await.json()["rate_limits"], json!([limit]));

        let path = format!("{limits}/end_user_ip");
        for (text, description) in [("Per address", json!("Per address")), ("", Value::Null)] {
            let updated = backend.post(&path, &[("Description", text), ("UniqueName", "other")]).await.json();
            assert_eq!((&updated["description"], &updated["unique_name"]), (&description, &json!("end_user_ip")));
            assert_eq!(backend.get(&path, &[]).await.json(), updated);
        }
        let bucket_path = format!("{path}/Buckets/{bucket_sid}");
        for (form, max, interval) in
            [(("Max", "1000000"), 1_000_000, 60), (("Interval", "86400"), 1_000_000, 86_400), (("Max", ""), 1_000_000, 86_400)]
        {
            let updated = backend.post(&bucket_path, &[form]).await.json();
            assert_eq!((&updated["max"], &updated["interval"]), (&json!(max), &json!(interval)), "{form:?}");
            assert_eq!(backend.get(&bucket_path, &[]).await.json(), updated);
        }

        for path in [&bucket_path, &path] {
            assert_eq!(backend.delete(path, &[]).await.status, 204);
            assert_error(&backend.get(path, &[]).await, 404, 20404);
            assert_error(&backend.post(path, &[]).await, 404, 20404);
            assert_error(&backend.delete(path, &[]).await, 404, 20404);
        }
    }
}

on_every_database! {
    async fn duplicates_and_too_many_rate_limits_and_buckets_are_refused(world: World) {
        let backend = world.backend();
        let limits = format!("/v2/Services/{}/RateLimits", world.service().await);
        let (_, bucket) = limit_with_bucket(&backend, &limits).await;
        let buckets = format!("{limits}/end_user_ip/Buckets");
        assert_error(&backend.post(&limits, &[("UniqueName", "end_user_ip")]).await, 400, 60208);
        assert_error(&backend.post(&buckets, &[("Max", "9"), ("Interval", "60")]).await, 400, 60211);

        for number in 1..MAX_BUCKETS {
            let form = [("Max", "9"), ("Interval", &*(60 + number).to_string())];
            created(&backend.post(&buckets, &form).await);
        }
        let path = format!("{buckets}/{}", bucket["sid"].as_str().unwrap());
        assert_error(&backend.post(&path, &[("Interval", "61")]).await, 400, 60211);
        assert_eq!(backend.get(&path, &[]).await.json(), bucket);
        assert_error(&backend.post(&buckets, &[("Max", "9"), ("Interval", "7")]).await, 400, 60210);
        assert_eq!(backend.delete(&path, &[]).await.status, 204);
        created(&backend.post(&buckets, &[("Max", "9"), ("Interval", "7")]).await);

        for number in 1..MAX_RATE_LIMITS {
            created(&backend.post(&limits, &[("UniqueName", &*format!("limit.{number}"))]).await);
        }
        assert_error(&backend.post(&limits, &[("UniqueName", "more")]).await, 400, 60207);
        // Another service may have the same names.
        let elsewhere = format!("/v2/Services/{}/RateLimits", world.service().await);
        created(&backend.post(&elsewhere, &[("UniqueName", "end_user_ip")]).await);
    }
}

#[tokio::test]
async fn invalid_parameters_of_rate_limits_and_buckets_are_refused() {
    let world = World::ephemeral();
    let backend = world.backend();
    let limits = format!("/v2/Services/{}/RateLimits", world.service().await);
    let (limit, bucket) = limit_with_bucket(&backend, &limits).await;
    let buckets = format!("{limits}/end_user_ip/Buckets");
    for name in ["a b", "a/b", "ü", &"x".repeat(65)] {
        let reply = backend.post(&limits, &[("UniqueName", name)]).await;
        assert_error(&reply, 400, 60209);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("Invalid unique name: UniqueName must be"), "{message}");
    }
    assert_error(&backend.post(&limits, &[("Description", "x")]).await, 400, 20001);
    let long = "x".repeat(257);
    for (path, more) in
        [(limits.clone(), ("UniqueName", "new")), (format!("{limits}/end_user_ip"), ("A", "b"))]
    {
        assert_invalid(&backend.post(&path, &[more, ("Description", &long)]).await, "Description");
    }
    for form in [[("Max", "1")], [("Interval", "1")], [("Max", "")]] {
        assert_error(&backend.post(&buckets, &form).await, 400, 20001);
    }
    let path = format!("{buckets}/{}", bucket["sid"].as_str().unwrap());
    for (parameter, other, texts) in [
        ("Max", ("Interval", "1"), ["0", "-1", "1.5", "x", "1000001"]),
        ("Interval", ("Max", "1"), ["0", "-1", "1.5", "x", "86401"]),
    ] {
        for text in texts {
            for path in [&buckets, &path] {
                assert_invalid(&backend.post(path, &[other, (parameter, text)]).await, parameter);
            }
        }
    }
    assert_eq!(backend.get(&limits, &[]).await.json()["rate_limits"], json!([limit]));
    assert_eq!(backend.get(&buckets, &[]).await.json()["buckets"], json!([bucket]));
}

#[tokio::test]
async fn rate_limits_are_found_only_in_their_service() {
    let world = World::ephemeral();
    let backend = world.backend();
    let (service, other) = (world.service().await, world.service().await);
    let limits = format!("/v2/Services/{service}/RateLimits");
    let (limit, bucket) = limit_with_bucket(&backend, &limits).await;
    created(&backend.post(&limits, &[("UniqueName", "second")]).await);
    let bucket = bucket["sid"].as_str().unwrap();
    for path in [
        format!("/v2/Services/{other}/RateLimits/end_user_ip"),
        format!("/v2/Services/{other}/RateLimits/{}", limit["sid"].as_str().unwrap()),
        format!("/v2/Services/{other}/RateLimits/end_user_ip/Buckets"),
        format!("/v2/Services/{other}/RateLimits/end_user_ip/Buckets/{bucket}"),
        format!("{limits}/second/Buckets/{bucket}"),
        format!("{limits}/End_user_ip"),
    ] {
        assert_error(&backend.get(&path, &[]).await, 404, 20404);
    }
    // A name that ends like the suffix of a path needs the suffix once more.
    let limit = created(&backend.post(&limits, &[("UniqueName", "a.json")]).await);
    assert_error(&backend.get(&format!("{limits}/a.json"), &[]).await, 404, 20404);
    assert_eq!(backend.get(&format!("{limits}/a.json.json"), &[]).await.json(), limit);
    assert_eq!(backend.get(&format!("{limits}/a.json/Buckets"), &[]).await.json()["buckets"], json!([]));

    assert_eq!(backend.delete(&format!("/v2/Services/{service}"), &[]).await.status, 204);
    assert_error(&backend.get(&limits, &[]).await, 404, 20404);
}

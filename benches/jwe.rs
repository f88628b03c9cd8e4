//! Measures access tokens: sealing a grant in a JWE, and opening it.
#![allow(clippy::unwrap_used, reason = "a bench ends with a panic when something is wrong")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use crypto::{EnrollmentKey, KeyRing, SystemEntropy};
use domain::access_tokens::Grant;
use domain::{FactorType, Identity, Timestamp};

/// The time at which the token of this bench is issued and opened.
const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let sid = |prefix: &str, digit: &str| format!("{prefix}{}", digit.repeat(32));
    let grant = Grant {
        sid: sid("YK", "6").parse().unwrap(),
        account_sid: sid("AC", "1").parse().unwrap(),
        service_sid: sid("VA", "2").parse().unwrap(),
        identity: Identity::from_stored("user-0001-abcd".to_owned()),
        factor_type: FactorType::Push,
        expires_at: NOW.plus_seconds(60),
    };
    let key = EnrollmentKey::generate(NOW.plus_seconds(-60), &SystemEntropy);
    let ring = KeyRing::new(vec![key], Arc::new(jwe::Josekit)).unwrap();
    let token = ring.issue(&grant, NOW).unwrap();
    let mut group = criterion.benchmark_group("jwe");
    group.bench_function("seal", |bencher| bencher.iter(|| ring.issue(black_box(&grant), NOW).unwrap()));
    group.bench_function("open", |bencher| {
        bencher.iter(|| ring.open(black_box(token.expose()), NOW).unwrap());
    });
    group.finish();
    criterion.final_summary();
}

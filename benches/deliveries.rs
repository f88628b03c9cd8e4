//! Measures the queue of deliveries on an in-memory SQLite database: a batch of pushes is claimed, and recorded as
//! delivered. The figures are times per batch.
#![allow(clippy::unwrap_used, reason = "a bench ends with a panic when something is wrong")]

use std::time::{Duration, Instant};

use criterion::Criterion;
use domain::deliveries::{AttemptOutcome, Delivery, DeliveryId, Destination, PushWork, Work};
use domain::factors::Platform;
use domain::{Identity, Sid, Timestamp};
use store::{AttemptRecord, DueDeliveries, Error, Location, OldSchema, Store, Write};
use tokio::runtime::Runtime;

/// Number of deliveries in a batch.
const BATCH_SIZE: usize = 64;

/// Number of pending deliveries that are not yet due, beside those of the batch.
const LATER_DELIVERY_COUNT: u64 = 1000;

const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);
const LEASE: &str = "bench";

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Runtime::new().unwrap();
    let store = runtime.block_on(Store::open(&Location::Memory, OldSchema::Migrate)).unwrap().0;
    let later = (0..LATER_DELIVERY_COUNT).map(|number| delivery(number, NOW.plus_seconds(3600))).collect();
    runtime.block_on(insert(&store, later));

    let mut next = LATER_DELIVERY_COUNT;
    let mut measure = |iterations: u64, time_of: fn([Duration; 2]) -> Duration| {
        let mut total = Duration::ZERO;
        for _ in 0..iterations {
            let due = (next..).take(BATCH_SIZE).map(|number| delivery(number, NOW)).collect();
            next += BATCH_SIZE as u64;
            total += time_of(runtime.block_on(claim_and_record(&store, due)));
        }
        total
    };
    let mut group = criterion.benchmark_group("deliveries");
    group.bench_function("claim_64", |bencher| {
        bencher.iter_custom(|count| measure(count, |[claim, _]| claim))
    });
    group.bench_function("record_64", |bencher| {
        bencher.iter_custom(|count| measure(count, |[_, record]| record));
    });
    group.finish();
    criterion.final_summary();
}

/// Inserts `due`, claims all of them, and records them as delivered. Returns how long the last two steps took.
async fn claim_and_record(store: &Store, due: Vec<Delivery>) -> [Duration; 2] {
    insert(store, due).await;
    let began = Instant::now();
    let claimed = store
        .write(async |tx: &mut Write| {
            tx.lease_deliveries(LEASE, &DueDeliveries::ALL, BATCH_SIZE, NOW, NOW.plus_seconds(60)).await
        })
        .await
        .unwrap();
    let claim = began.elapsed();
    let claimed = claimed.readable;
    assert_eq!(claimed.len(), BATCH_SIZE);
    let attempts: Vec<_> = claimed.iter().map(|delivery| (delivery.id, delivered(), NOW)).collect();
    let began = Instant::now();
    store.write(async move |tx: &mut Write| tx.record_delivered(LEASE, &attempts).await).await.unwrap();
    [claim, began.elapsed()]
}

async fn insert(store: &Store, deliveries: Vec<Delivery>) {
    let work = async move |tx: &mut Write| {
        for delivery in &deliveries {
            tx.insert_delivery(delivery).await?;
        }
        Ok::<_, Error>(())
    };
    store.write(work).await.unwrap();
}

/// Returns the push with this number, which is due at `due_at`.
fn delivery(number: u64, due_at: Timestamp) -> Delivery {
    let id: DeliveryId = format!("019b76da-a800-7000-8000-{number:012x}").parse().unwrap();
    let service_sid = sid(1);
    let work = Work::Push(PushWork {
        challenge_sid: sid(number),
        factor_sid: sid(number),
        service_sid,
        identity: Identity::from_stored("user-0001-abcd".to_owned()),
        notification_sid: None,
        ttl: 300,
    });
    let destination = Destination::Push { platform: Platform::Fcm, service_sid };
    Delivery::new(id, sid(1), work, destination, due_at, due_at.plus_seconds(300), None)
}

fn delivered() -> AttemptRecord {
    AttemptRecord {
        number: 0,
        began_at: NOW,
        milliseconds: 20,
        outcome: AttemptOutcome::Delivered,
        error_code: None,
        status: None,
        detail: None,
    }
}

fn sid<S: Sid>(number: u64) -> S {
    S::from_bytes(u128::from(number).to_be_bytes())
}

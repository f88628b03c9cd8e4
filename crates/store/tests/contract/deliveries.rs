//! The outbox of deliveries, the leases on deliveries, and the announcements of new deliveries.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use domain::Timestamp;
use domain::deliveries::{
    AttemptOutcome, Delivery, DeliveryId, DeliveryState, Destination, Next, PushWork, Schedule, Stranded,
    Work,
};
use store::{
    Announcement, AttemptRecord, Changes, Conflict, DeliveryFilter, DeliveryStatus, DueDeliveries, Error,
    PendingDeliveries, ProcessTag, Store, Write,
};
use tokio::sync::Barrier;
use tokio::time::timeout;

use crate::concurrency::{Gate, MAX_WAIT, block_on_new_runtime, run_concurrently};
use crate::databases::TestDatabase;
use crate::fixtures::*;

contract! {
    delivery_is_read_back_unchanged,
    unknown_delivery_is_not_found,
    delivery_cannot_be_enqueued_twice,
    delivery_enqueued_in_a_rolled_back_write_does_not_exist,
    deliveries_are_listed_newest_first_and_filtered_by_subject_kind_and_state,
    pending_deliveries_are_counted_by_kind,
    next_due_time_is_the_earliest_due_time_of_all_pending_deliveries,
    due_deliveries_are_leased_in_order_of_due_time,
    leasing_counts_an_attempt_and_defers_the_delivery_until_the_lease_expires,
    delivery_that_is_not_due_is_not_leased,
    deliveries_are_leased_by_destination_and_due_time,
    lease_in_a_rolled_back_write_has_no_effect,
    each_due_delivery_is_leased_by_exactly_one_of_many_workers,
    holder_of_an_expired_and_reassigned_lease_cannot_record_an_attempt,
    holder_of_an_expired_lease_can_record_an_attempt_until_the_lease_is_reassigned,
    every_attempt_result_sets_the_delivery_state_and_releases_the_lease,
    attempts_are_numbered_by_the_store_and_read_back_in_order,
    attempt_is_recorded_by_exactly_one_of_many_concurrent_writes,
    delivered_batch_is_recorded_except_for_deliveries_with_a_lost_lease,
    finished_delivery_cannot_be_recorded_renewed_released_or_leased_again,
    attempt_recorded_in_a_rolled_back_write_leaves_the_delivery_pending,
    finished_delivery_is_requeued_by_exactly_one_of_several_concurrent_writes,
    failed_push_cannot_be_requeued,
    released_delivery_is_due_again_and_its_attempt_is_not_counted,
    lease_can_be_released_only_by_its_holder,
    concurrently_released_and_recorded_delivery_is_either_released_or_recorded,
    lease_can_be_renewed_only_by_its_holder,
    renewed_lease_is_not_reassigned_before_its_new_expiry,
    delivery_scheduled_before_the_clock_was_set_back_is_stranded_and_made_due,
    delivery_due_later_than_the_longest_backoff_allows_is_stranded,
    delivery_leased_by_the_same_worker_or_due_soon_is_not_stranded,
    old_finished_deliveries_are_deleted_in_batches_with_their_attempts,
    pending_delivery_is_not_deleted_regardless_of_its_age,
}

contract! {
    on disk:
    each_due_delivery_is_leased_by_exactly_one_worker_of_several_servers,
    unreadable_delivery_does_not_block_other_deliveries,
}

contract! {
    on postgres:
    leasing_skips_deliveries_locked_by_another_server,
    announcement_is_received_by_other_servers,
    announcement_is_received_after_connections_were_killed,
    listener_returns_after_losing_its_connection_and_receives_later_announcements,
    listener_can_be_dropped_outside_a_runtime,
    listeners_work_after_the_runtimes_that_created_them_ended,
    closing_the_store_ends_its_listeners_with_an_error,
    closed_store_can_neither_listen_nor_announce,
}

contract! {
    on sqlite:
    sqlite_store_has_no_announcements,
}

contract! {
    on memory:
    in_memory_store_has_no_announcements,
}

/// The tag of the process under test.
const OWN: ProcessTag = ProcessTag(1);

/// Returns the announcement that a delivery is pending.
fn delivery_pending() -> Announcement {
    Announcement { has_deliveries: true, changes: Changes::default() }
}

/// Expiry of a lease that is acquired at [`NOW`]: 30 seconds later.
const END: Timestamp = Timestamp::from_micros(NOW.micros() + 30_000_000);

/// Enqueues `N` deliveries to one webhook and returns them. They are due one second apart, the last at [`NOW`].
async fn enqueue_deliveries<const N: usize>(store: &Store) -> [&'static Delivery; N] {
    let EnrolledUser { service, .. } = enrolled_user(store).await;
    let webhook = webhook(service);
    add(store, [webhook]).await;
    let mut before = N as i64;
    let deliveries = [(); N].map(|()| {
        before -= 1;
        changed(delivery(webhook), |delivery| delivery.next_attempt_at = NOW.plus_seconds(-before))
    });
    add(store, deliveries).await;
    deliveries
}

/// Leases at most `limit` deliveries that are due at [`NOW`], until [`END`]. Returns them, sorted by id.
async fn lease(store: &Store, lease: &'static str, limit: usize) -> Vec<Delivery> {
    lease_at(store, lease, limit, NOW, END).await
}

/// Leases at most `limit` deliveries that are due at `now`, until the time `until`. Returns them, sorted by id.
async fn lease_at(
    store: &Store,
    lease: &'static str,
    limit: usize,
    now: Timestamp,
    until: Timestamp,
) -> Vec<Delivery> {
    let leased = transact!(store, |tx| tx.lease_deliveries(lease, &DueDeliveries::ALL, limit, now, until));
    let mut leased = leased.unwrap().readable;
    // The store leases the deliveries that are due first, but returns them in any order.
    leased.sort_by_key(|delivery| delivery.id);
    leased
}

/// Leases and returns the only delivery that is due at [`NOW`].
///
/// # Panics
/// Panics if there is not exactly one due delivery.
async fn lease_one(store: &Store, lease: &'static str) -> &'static Delivery {
    let leased = self::lease(store, lease, 2).await;
    assert_eq!(leased.len(), 1);
    leak(leased).first().unwrap()
}

/// Records an attempt that ended one second after [`NOW`]. Returns whether it was
/// recorded: `false` if `lease` is no longer valid.
async fn record(store: &Store, lease: &'static str, delivery: &'static Delivery, next: Next) -> bool {
    let ending = match next {
        Next::Retry(_) => "again",
        Next::Delivered => "delivered",
        Next::Skipped => "skipped",
        Next::Failed => "failed",
    };
    let attempt = attempt(delivery, ending);
    transact!(store, |tx| tx.record_attempt(lease, delivery, attempt, next, NOW.plus_seconds(1))).unwrap()
}

/// Returns the delivery with this id, and its attempts.
async fn fetch(store: &Store, id: DeliveryId) -> (DeliveryStatus, Vec<AttemptRecord>) {
    read!(store, |db| db.delivery(id)).unwrap().unwrap()
}

/// Returns the status that is expected for `delivery`. `state` is the stored word of the state, such as `failed`.
fn status(delivery: &Delivery, state: &str, finished_at: Option<Timestamp>) -> DeliveryStatus {
    DeliveryStatus {
        delivery: delivery.clone(),
        state: DeliveryState::from_stored(state).unwrap(),
        finished_at,
    }
}

/// Returns the ids of `deliveries`, in the same order.
fn ids<D: std::borrow::Borrow<Delivery>>(deliveries: impl IntoIterator<Item = D>) -> Vec<DeliveryId> {
    deliveries.into_iter().map(|delivery| delivery.borrow().id).collect()
}

/// Returns a webhook delivery, a push and a debugger event, in this order, each with a value in every field.
fn one_of_each(user: EnrolledUser) -> [&'static Delivery; 3] {
    let like = delivery(webhook(user.service));
    let parameters = vec![
        ("empty".to_owned(), String::new()),
        ("twice".to_owned(), "\r\n\t\u{0}".to_owned()),
        ("twice".to_owned(), TRICKY_TEXT.to_owned()),
    ];
    let with = |work| {
        changed(like, |delivery| {
            (delivery.id, delivery.work) = (delivery_id(), work);
            delivery.destination = Destination::Host(TRICKY_TEXT.to_owned());
            (delivery.created_at, delivery.next_attempt_at, delivery.expires_at) = (MIN_TIME, NOW, MAX_TIME);
        })
    };
    [
        with(Work::Webhook {
            webhook_sid: sid(),
            service_sid: sid(),
            parameters: parameters.clone(),
            once: true,
        }),
        with(Work::Push(PushWork {
            challenge_sid: sid(),
            factor_sid: sid(),
            service_sid: sid(),
            identity: domain::Identity::from_stored(TRICKY_TEXT.to_owned()),
            notification_sid: Some(sid()),
            ttl: u32::MAX,
        })),
        with(Work::Debugger { alert_sid: sid(), parameters }),
    ]
}

async fn delivery_is_read_back_unchanged(store: Store) {
    let user = enrolled_user(&store).await;
    let plain = delivery(webhook(user.service));
    let first_push = changed(one_of_each(user)[1], |delivery| {
        delivery.id = delivery_id();
        if let Work::Push(push) = &mut delivery.work {
            (push.notification_sid, push.ttl) = (None, 0);
        }
    });
    for delivery in [plain, first_push].into_iter().chain(one_of_each(user)) {
        transact!(store, |tx| tx.insert_delivery(delivery)).unwrap();
        let (found, attempts) = fetch(&store, delivery.id).await;
        assert_same!(found, status(delivery, "owed", None));
        assert_same!(attempts, Vec::<AttemptRecord>::new());
    }
}

async fn unknown_delivery_is_not_found(store: Store) {
    enqueue_deliveries::<1>(&store).await;
    let id = delivery_id();
    assert_same!(read!(store, |db| db.delivery(id)).unwrap(), None::<(DeliveryStatus, Vec<AttemptRecord>)>);
}

async fn delivery_cannot_be_enqueued_twice(store: Store) {
    let [delivery] = enqueue_deliveries(&store).await;
    assert_refused!(transact!(store, |tx| tx.insert_delivery(delivery)), Error::Conflict(Conflict::Other));
}

async fn delivery_enqueued_in_a_rolled_back_write_does_not_exist(store: Store) {
    let webhook = webhook(enrolled_user(&store).await.service);
    let deliveries: Vec<_> = (0..60).map(|_| delivery(webhook)).collect();
    // Write concurrently, so that on SQLite several writes share a transaction.
    let outcomes = run_concurrently(deliveries.len(), |number| {
        let (store, delivery) = (store.clone(), deliveries[number]);
        let enqueue = async move |tx: &mut Write| {
            tx.insert_delivery(delivery).await?;
            if number % 3 == 0 { Err(Error::Panicked) } else { Ok(delivery.id) }
        };
        async move { store.write(enqueue).await.ok() }
    });
    let kept: BTreeSet<_> = outcomes.await.into_iter().flatten().collect();
    assert_eq!(kept.len(), 40);
    let found = read!(store, |db| db.deliveries(&DeliveryFilter::default(), 100)).unwrap();
    assert_eq!(found.into_iter().map(|found| found.delivery.id).collect::<BTreeSet<_>>(), kept);
    assert_eq!(ids(lease(&store, "worker", 100).await).into_iter().collect::<BTreeSet<_>>(), kept);
}

async fn deliveries_are_listed_newest_first_and_filtered_by_subject_kind_and_state(store: Store) {
    let user = enrolled_user(&store).await;
    let (one, other) = (webhook(user.service), webhook(user.service));
    let [_, push, debugger] = one_of_each(user);
    let with_new_id = |like| changed(like, |it: &mut Delivery| it.id = delivery_id());
    let [first, second, third, fourth, fifth] =
        [delivery(one), debugger, delivery(one), push, delivery(other)].map(with_new_id);
    add(&store, [fifth, third, second, first, fourth]).await;
    let leased = lease(&store, "worker", 5).await;
    let skipped = leak(leased.into_iter().find(|delivery| delivery.id == first.id).unwrap());
    assert!(record(&store, "worker", skipped, Next::Skipped).await);

    let Work::Push(PushWork { factor_sid, .. }) = push.work else { panic!() };
    let Work::Debugger { alert_sid, .. } = debugger.work else { panic!() };
    let subject = |sid: String| DeliveryFilter { subject: Some(sid), ..Default::default() };
    let kind = |kind: &str| DeliveryFilter { kind: Some(kind.to_owned()), ..Default::default() };
    let state = |state: &str| DeliveryFilter { state: Some(state.to_owned()), ..Default::default() };
    let both = |sid: String, state: &str| DeliveryFilter { state: Some(state.to_owned()), ..subject(sid) };
    for (filter, limit, expected) in [
        (DeliveryFilter::default(), 9, &[fifth, fourth, third, second, first][..]),
        (DeliveryFilter::default(), 2, &[fifth, fourth]),
        (subject(one.sid.to_string()), 9, &[third, first]),
        (subject(one.sid.to_string()), 1, &[third]),
        (subject(other.sid.to_string()), 9, &[fifth]),
        (subject(factor_sid.to_string()), 9, &[fourth]),
        (subject(alert_sid.to_string()), 9, &[second]),
        (subject(String::new()), 9, &[]),
        (kind("webhook"), 9, &[fifth, third, first]),
        (kind("push"), 9, &[fourth]),
        (kind("debugger"), 9, &[second]),
        (state("owed"), 9, &[fifth, fourth, third, second]),
        (state("skipped"), 9, &[first]),
        (state("failed"), 9, &[]),
        (both(one.sid.to_string(), "owed"), 9, &[third]),
        (both(one.sid.to_string(), "owed"), 0, &[]),
    ] {
        let wanted = format!("{filter:?}, {limit}");
        let found = read!(store, |db| db.deliveries(&filter, limit)).unwrap();
        assert_eq!(
            ids(found.into_iter().map(|found| found.delivery)),
            ids(expected.iter().copied()),
            "{wanted}"
        );
    }
}

async fn pending_deliveries_are_counted_by_kind(store: Store) {
    let counted = async || {
        let mut pending = read!(store, |db| db.pending_deliveries()).unwrap();
        pending.sort_by(|a, b| a.kind.cmp(&b.kind));
        pending
    };
    assert_eq!(counted().await, []);
    let user = enrolled_user(&store).await;
    let plain = changed(delivery(webhook(user.service)), |delivery| delivery.created_at = NOW);
    let [webhook, push, debugger] = one_of_each(user);
    add(&store, [plain, webhook, push, debugger]).await;
    let of = |kind: &str, deliveries, oldest| PendingDeliveries { kind: kind.to_owned(), deliveries, oldest };
    let each = [of("debugger", 1, MIN_TIME), of("push", 1, MIN_TIME), of("webhook", 2, MIN_TIME)];
    assert_eq!(counted().await, each);
    // Leased deliveries still count as pending. Finished deliveries do not.
    let leased = leak(lease(&store, "worker", 9).await);
    assert_eq!(counted().await, each);
    for delivery in leased.iter().filter(|delivery| delivery.id != plain.id) {
        assert!(record(&store, "worker", delivery, Next::Delivered).await);
    }
    assert_eq!(counted().await, [of("webhook", 1, NOW)]);
}

async fn next_due_time_is_the_earliest_due_time_of_all_pending_deliveries(store: Store) {
    let next_due = async || read!(store, |db| db.next_delivery_due_at(MIN_TIME..=MAX_TIME, &[])).unwrap();
    assert_eq!(next_due().await, None);
    let [first, _, last] = enqueue_deliveries(&store).await;
    assert_eq!(next_due().await, Some(first.next_attempt_at));
    // A leased delivery is due again when its lease expires.
    let leased = leak(lease(&store, "worker", 2).await);
    assert_eq!(next_due().await, Some(last.next_attempt_at));
    lease(&store, "worker", 1).await;
    assert_eq!(next_due().await, Some(END));
    assert!(record(&store, "worker", &leased[0], Next::Retry(MIN_TIME)).await);
    assert_eq!(next_due().await, Some(MIN_TIME));
    let again = leak(lease_at(&store, "worker", 5, NOW, MAX_TIME).await);
    assert!(record(&store, "worker", &again[0], Next::Failed).await);
    assert_eq!(next_due().await, Some(END));
}

async fn due_deliveries_are_leased_in_order_of_due_time(store: Store) {
    let [e, d, c, b, a] = enqueue_deliveries(&store).await;
    // The order of the ids differs from the order of the due times.
    let [a, b, c, d, e] = [(a, -50), (b, -40), (c, -30), (d, -20), (e, -10)].map(|(delivery, second)| {
        changed(delivery, |it| (it.id, it.next_attempt_at) = (delivery.id, NOW.plus_seconds(second)))
    });
    // Reschedule all deliveries to these due times.
    lease(&store, "worker", 5).await;
    let reschedule = async move |tx: &mut Write| {
        for delivery in [a, b, c, d, e] {
            let attempt = attempt(changed(delivery, |it| it.attempts = 1), "again");
            tx.record_attempt("worker", delivery, attempt, Next::Retry(delivery.next_attempt_at), NOW)
                .await?;
        }
        Ok::<_, Error>(())
    };
    store.write(reschedule).await.unwrap();
    for expected in [vec![a], vec![b, c], vec![d, e], vec![]] {
        let limit = expected.len().max(1);
        let found: BTreeSet<_> = ids(lease(&store, "worker", limit).await).into_iter().collect();
        assert_eq!(found, ids(expected).into_iter().collect());
    }
}

async fn leasing_counts_an_attempt_and_defers_the_delivery_until_the_lease_expires(store: Store) {
    let [one, other] = enqueue_deliveries(&store).await;
    let leased = [one, other].map(|it| changed(it, |it| (it.attempts, it.next_attempt_at) = (1, END)));
    assert_same!(lease(&store, "worker", 2).await, leased);
    for leased in leased {
        assert_same!(fetch(&store, leased.id).await.0, status(leased, "owed", None));
    }
    // Let several leases expire one after another, without recording an attempt.
    let mut now = END;
    for attempts in 2..5 {
        let until = now.plus_seconds(30);
        let leased =
            [one, other].map(|it| changed(it, |it| (it.attempts, it.next_attempt_at) = (attempts, until)));
        assert_same!(lease_at(&store, "another", 2, now, until).await, leased);
        now = until;
    }
}

async fn delivery_that_is_not_due_is_not_leased(store: Store) {
    let [_, last] = enqueue_deliveries(&store).await;
    let moment = |micros| Timestamp::from_micros(last.next_attempt_at.micros() + micros);
    assert_eq!(lease_at(&store, "worker", 2, moment(-1), END).await.len(), 1);
    assert_eq!(lease_at(&store, "worker", 2, moment(-1), END).await.len(), 0);
    assert_eq!(ids(lease_at(&store, "worker", 2, moment(0), END).await), [last.id]);
    // A leased delivery is not leased again before its lease expires, not even by the holder of the lease.
    let just_before = Timestamp::from_micros(END.micros() - 1);
    for worker in ["worker", "another"] {
        assert_eq!(lease_at(&store, worker, 2, just_before, MAX_TIME).await.len(), 0);
    }
    assert_eq!(lease_at(&store, "another", 2, END, MAX_TIME).await.len(), 2);
}

async fn deliveries_are_leased_by_destination_and_due_time(store: Store) {
    let like = delivery(webhook(enrolled_user(&store).await.service));
    let to = |destination: &str, due: Timestamp| {
        changed(like, |it| {
            (it.id, it.destination) = (delivery_id(), Destination::Host(destination.to_owned()));
            it.next_attempt_at = due;
        })
    };
    let early = NOW.plus_seconds(-9);
    let [a, b, c] =
        ["a.example:443", "b.example:443", "a.example:80"].map(|destination| to(destination, NOW));
    let (awkward, sooner) = (to(TRICKY_TEXT, early), to("a.example:443", early));
    let not_due = to("a.example:443", NOW.plus_seconds(1));
    add(&store, [a, b, c, awkward, sooner, not_due]).await;
    let destinations = |hosts: &[&str]| -> Vec<_> {
        hosts.iter().map(|&destination| Destination::Host(destination.to_owned())).collect()
    };
    let next = async |from, except: &[&str]| {
        let except = destinations(except);
        read!(store, |db| db.next_delivery_due_at(from..=NOW, &except)).unwrap()
    };
    assert_eq!(next(MIN_TIME, &[]).await, Some(early));
    assert_eq!(next(early, &[]).await, Some(early));
    assert_eq!(next(early.plus_seconds(1), &[]).await, Some(NOW));
    assert_eq!(next(MIN_TIME, &["a.example:443", TRICKY_TEXT]).await, Some(NOW));
    assert_eq!(next(NOW.plus_seconds(1), &["a.example:443"]).await, None);

    let lease = async |due: DueDeliveries, limit| {
        let leased = transact!(store, |tx| tx.lease_deliveries("worker", &due, limit, NOW, END));
        let leased = leased.unwrap();
        assert_eq!(leased.is_limited, leased.readable.len() == limit);
        ids(leased.readable).into_iter().collect::<BTreeSet<_>>()
    };
    let except = |from, hosts: &[&str]| DueDeliveries::Except { from, destinations: destinations(hosts) };
    let set = |deliveries: &[&Delivery]| ids(deliveries.iter().copied()).into_iter().collect::<BTreeSet<_>>();
    // The limit counts the leased deliveries, not the skipped ones.
    let full = [TRICKY_TEXT, "a.example:443", "b.example:443", "unused.example:443"];
    assert_eq!(lease(except(MIN_TIME, &full), 1).await, set(&[c]));
    assert_eq!(lease(except(MIN_TIME, &full), 9).await, set(&[]));
    assert_eq!(lease(except(NOW, &["a.example:443"]), 9).await, set(&[b]));
    // The oldest to one destination, and not those that are due later.
    let to_a = || DueDeliveries::To(Destination::Host("a.example:443".to_owned()));
    assert_eq!(lease(to_a(), 1).await, set(&[sooner]));
    assert_eq!(lease(to_a(), 9).await, set(&[a]));
    let many: Vec<_> = (0..500).map(|number| format!("{number}.example:443")).collect();
    let many = many.iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(lease(except(MIN_TIME, &many), 9).await, set(&[awkward]));
}

async fn lease_in_a_rolled_back_write_has_no_effect(store: Store) {
    let [delivery] = enqueue_deliveries(&store).await;
    let rolled_back = store.write(async |tx: &mut Write| {
        assert_eq!(tx.lease_deliveries("worker", &DueDeliveries::ALL, 1, NOW, END).await?.readable.len(), 1);
        Err::<(), _>(Error::Panicked)
    });
    assert_refused!(rolled_back.await, Error::Panicked);
    assert_same!(fetch(&store, delivery.id).await.0, status(delivery, "owed", None));
}

/// Enqueues 400 deliveries, and lets twelve workers lease them concurrently until no due delivery is left. The workers
/// are distributed over `stores`, which share a database. Asserts that each delivery was leased exactly once and has
/// one counted attempt.
async fn assert_each_delivery_is_leased_once(stores: &[Store]) {
    const WORKERS: usize = 12;
    let store = &stores[0];
    let webhook = webhook(enrolled_user(store).await.service);
    let deliveries: Vec<_> = (0..400)
        // Several deliveries are due at the same time.
        .map(|number| changed(delivery(webhook), |it| it.next_attempt_at = NOW.plus_seconds(-(number % 7))))
        .collect();
    add(store, deliveries.clone()).await;
    let ready = Arc::new(Barrier::new(WORKERS));
    let leased = run_concurrently(WORKERS, |number| {
        let (store, ready) = (stores[number % stores.len()].clone(), Arc::clone(&ready));
        let name: &str = leak(format!("worker {number}"));
        async move {
            ready.wait().await;
            let mut leased = Vec::new();
            loop {
                let more = lease(&store, name, 1 + number).await;
                assert!(more.len() <= 1 + number);
                match more.is_empty() {
                    true => return leased,
                    false => leased.extend(more),
                }
            }
        }
    });
    let mut leased: Vec<_> = leased.await.into_iter().flatten().collect();
    leased.sort_by_key(|delivery| delivery.id);
    assert_eq!(ids(&leased), ids(deliveries.iter().copied()));
    assert!(leased.iter().all(|delivery| delivery.attempts == 1));
    assert_eq!(lease(store, "worker", 1).await.len(), 0);
}

async fn each_due_delivery_is_leased_by_exactly_one_of_many_workers(store: Store) {
    assert_each_delivery_is_leased_once(&[store]).await;
}

async fn each_due_delivery_is_leased_by_exactly_one_worker_of_several_servers(database: TestDatabase) {
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(database.open().await);
    }
    assert_each_delivery_is_leased_once(&stores).await;
}

async fn leasing_skips_deliveries_locked_by_another_server(database: TestDatabase) {
    let (one, other) = (database.open().await, database.open().await);
    let [a, b, c, d] = enqueue_deliveries(&one).await;
    let (leased, proceed) = (Gate::closed(), Gate::closed());
    let slow = tokio::spawn(async move {
        let lease = one.write(async move |tx: &mut Write| {
            let first = tx.lease_deliveries("slow", &DueDeliveries::ALL, 2, NOW, END).await?;
            leased.open();
            proceed.wait_until_open().await;
            match first.readable.len() {
                2 => Err::<(), _>(Error::Panicked),
                _ => Ok(()),
            }
        });
        assert_refused!(lease.await, Error::Panicked);
    });
    leased.wait_until_open().await;
    let quick = timeout(MAX_WAIT, lease(&other, "quick", 3)).await;
    assert_eq!(ids(quick.expect("leasing must not wait for the other server")), ids([c, d]));
    proceed.open();
    slow.await.unwrap();
    // The leases of the other server were rolled back, so its deliveries can be leased again.
    assert_eq!(ids(lease(&other, "quick", 3).await), ids([a, b]));
}

async fn holder_of_an_expired_and_reassigned_lease_cannot_record_an_attempt(store: Store) {
    let [pending] = enqueue_deliveries(&store).await;
    let first = lease_one(&store, "first").await;
    let end = END.plus_seconds(30);
    let second = leak(lease_at(&store, "second", 1, END, end).await);
    let expected = changed(pending, |delivery| (delivery.attempts, delivery.next_attempt_at) = (2, end));
    assert_same!(*second, vec![expected]);

    for next in [Next::Delivered, Next::Skipped, Next::Failed, Next::Retry(NOW)] {
        assert!(!record(&store, "first", first, next).await);
        let (found, attempts) = fetch(&store, pending.id).await;
        assert_same!(found, status(expected, "owed", None));
        assert_same!(attempts, Vec::<AttemptRecord>::new());
    }
    assert!(record(&store, "second", &second[0], Next::Delivered).await);
    assert!(!record(&store, "first", first, Next::Failed).await);
    let (found, attempts) = fetch(&store, pending.id).await;
    assert_same!(found, status(expected, "delivered", Some(NOW.plus_seconds(1))));
    assert_same!(attempts, [attempt(first, "delivered")]);
}

/// The attempt was made, and no other worker has repeated it, so its result is still valid.
async fn holder_of_an_expired_lease_can_record_an_attempt_until_the_lease_is_reassigned(store: Store) {
    let [pending] = enqueue_deliveries(&store).await;
    let leased = lease_one(&store, "worker").await;
    let late = END.plus_seconds(3600);
    let delivered = attempt(leased, "delivered");
    let recorded =
        transact!(store, |tx| tx.record_attempt("worker", leased, delivered, Next::Delivered, late));
    assert!(recorded.unwrap());
    assert_same!(fetch(&store, pending.id).await.0, status(leased, "delivered", Some(late)));
}

async fn every_attempt_result_sets_the_delivery_state_and_releases_the_lease(store: Store) {
    let ended_at = NOW.plus_seconds(1);
    for (next, state, is_over) in [
        (Next::Delivered, "delivered", true),
        (Next::Skipped, "skipped", true),
        (Next::Failed, "failed", true),
        (Next::Retry(NOW.plus_seconds(5)), "owed", false),
    ] {
        let [_, bystander] = enqueue_deliveries(&store).await;
        let leased = leak(lease(&store, "worker", 1).await).first().unwrap();
        assert!(record(&store, "worker", leased, next).await);
        let expected =
            changed(leased, |it| it.next_attempt_at = if is_over { END } else { NOW.plus_seconds(5) });
        let (found, attempts) = fetch(&store, leased.id).await;
        assert_same!(found, status(expected, state, is_over.then_some(ended_at)));
        let ending = if is_over { state } else { "again" };
        assert_same!(attempts, [attempt(leased, ending)]);
        assert_same!(fetch(&store, bystander.id).await.0, status(bystander, "owed", None));

        // Recording an attempt ends the lease.
        assert!(!record(&store, "worker", leased, Next::Delivered).await);
        lease(&store, "another", 1).await;
        let later = lease_at(&store, "another", 1, NOW.plus_seconds(5), MAX_TIME).await;
        assert_eq!(ids(later), if is_over { vec![] } else { vec![leased.id] });
    }
}

async fn attempts_are_numbered_by_the_store_and_read_back_in_order(store: Store) {
    let [pending, bystander] = enqueue_deliveries(&store).await;
    let plain = attempt(changed(pending, |delivery| delivery.attempts = 1), "again");
    let full = leak(AttemptRecord {
        number: 2,
        began_at: MIN_TIME,
        milliseconds: i64::MAX,
        outcome: AttemptOutcome::Retry,
        error_code: Some(u32::MAX),
        status: Some(u16::MAX),
        detail: Some(TRICKY_TEXT.repeat(20)),
    });
    let last = leak(AttemptRecord {
        number: 3,
        outcome: AttemptOutcome::Failed,
        detail: Some(String::new()),
        ..plain.clone()
    });
    for (attempt, next) in [(plain, Next::Retry(NOW)), (full, Next::Retry(NOW)), (last, Next::Failed)] {
        let leased = lease(&store, "worker", 2).await;
        let leased = leak(leased).iter().find(|leased| leased.id == pending.id).unwrap();
        assert_eq!(leased.attempts, attempt.number);
        // The store numbers the attempts itself and ignores the number in the record.
        let attempt = leak(AttemptRecord { number: 7, ..attempt.clone() });
        let recorded = transact!(store, |tx| tx.record_attempt("worker", leased, attempt, next, NOW));
        assert!(recorded.unwrap());
    }
    assert_same!(fetch(&store, pending.id).await.1, [plain, full, last]);
    assert_same!(fetch(&store, bystander.id).await.1, Vec::<AttemptRecord>::new());
}

/// The batch leaves out deliveries that are not leased, that another worker has leased, or that are finished.
async fn delivered_batch_is_recorded_except_for_deliveries_with_a_lost_lease(store: Store) {
    let [first, second, taken_over, finished, unleased] = enqueue_deliveries(&store).await;
    let leased = leak(lease(&store, "worker", 4).await);
    let attempts: Vec<&AttemptRecord> = leased
        .iter()
        .map(|leased| {
            let plain = attempt(leased, "delivered").clone();
            match leased.id == second.id {
                true => {
                    leak(AttemptRecord { status: Some(204), detail: Some(TRICKY_TEXT.repeat(20)), ..plain })
                }
                false => leak(plain),
            }
        })
        .collect();
    let another = lease_at(&store, "another", 9, END, MAX_TIME).await;
    let back = another.iter().map(|leased| leased.id).filter(|id| *id != taken_over.id && *id != unleased.id);
    let back: Vec<DeliveryId> = back.collect();
    transact!(store, |tx| tx.release_deliveries("another", &back, NOW)).unwrap();
    let leased = leak(lease(&store, "worker", 9).await);
    let mine = leased.iter().find(|leased| leased.id == finished.id).unwrap();
    assert!(record(&store, "worker", mine, Next::Skipped).await);

    let ended_at = NOW.plus_seconds(1);
    let ids = [first.id, second.id, taken_over.id, finished.id, unleased.id];
    let batch: Vec<_> = ids
        .iter()
        .map(|id| {
            let attempt = attempts.iter().zip(ids).find(|(_, known)| known == id);
            (*id, attempt.map_or_else(|| attempts[0].clone(), |(attempt, _)| (*attempt).clone()), ended_at)
        })
        .collect();
    let batch = leak(batch);
    for _ in 0..2 {
        transact!(store, |tx| tx.record_delivered("worker", batch)).unwrap();
    }
    for (id, wanted) in [(first.id, attempts[0]), (second.id, attempts[1])] {
        let (found, recorded) = fetch(&store, id).await;
        assert_eq!((found.state.as_str(), found.finished_at), ("delivered", Some(ended_at)));
        assert_same!(recorded, [wanted]);
    }
    for (id, state, count) in
        [(taken_over.id, "owed", 0), (finished.id, "skipped", 1), (unleased.id, "owed", 0)]
    {
        let (found, recorded) = fetch(&store, id).await;
        assert_eq!((found.state.as_str(), recorded.len()), (state, count));
    }
    transact!(store, |tx| tx.record_delivered("worker", &[])).unwrap();
}

async fn attempt_is_recorded_by_exactly_one_of_many_concurrent_writes(store: Store) {
    let [pending] = enqueue_deliveries(&store).await;
    let leased = lease_one(&store, "worker").await;
    let recorded = run_concurrently(20, |number| {
        let store = store.clone();
        let next = if number % 2 == 0 { Next::Delivered } else { Next::Retry(NOW) };
        async move { record(&store, "worker", leased, next).await }
    });
    assert_eq!(recorded.await.into_iter().filter(|recorded| *recorded).count(), 1);
    assert_eq!(fetch(&store, pending.id).await.1.len(), 1);
}

async fn finished_delivery_cannot_be_recorded_renewed_released_or_leased_again(store: Store) {
    for next in [Next::Delivered, Next::Skipped, Next::Failed] {
        let [pending] = enqueue_deliveries(&store).await;
        let leased = lease_one(&store, "worker").await;
        assert!(record(&store, "worker", leased, next).await);
        let (before, _) = fetch(&store, pending.id).await;
        assert!(!record(&store, "worker", leased, Next::Retry(NOW)).await);
        let ids: &[_] = leak([pending.id]);
        transact!(store, |tx| tx.renew_leases("worker", ids, NOW)).unwrap();
        transact!(store, |tx| tx.release_deliveries("worker", ids, NOW)).unwrap();
        assert_eq!(lease_at(&store, "another", 9, MAX_TIME, MAX_TIME).await.len(), 0);
        assert_eq!(read!(store, |db| db.next_delivery_due_at(MIN_TIME..=MAX_TIME, &[])).unwrap(), None);
        let (after, attempts) = fetch(&store, pending.id).await;
        assert_same!(after, before);
        assert_eq!(attempts.len(), 1);
    }
}

async fn attempt_recorded_in_a_rolled_back_write_leaves_the_delivery_pending(store: Store) {
    let [pending] = enqueue_deliveries(&store).await;
    let leased = lease_one(&store, "worker").await;
    let rolled_back = store.write(async |tx: &mut Write| {
        let recorded = tx.record_attempt("worker", leased, attempt(leased, "failed"), Next::Failed, NOW);
        assert!(recorded.await?);
        Err::<(), _>(Error::Panicked)
    });
    assert_refused!(rolled_back.await, Error::Panicked);
    let (found, attempts) = fetch(&store, pending.id).await;
    assert_same!(found, status(leased, "owed", None));
    assert_same!(attempts, Vec::<AttemptRecord>::new());
    assert!(record(&store, "worker", leased, Next::Failed).await);
}

async fn finished_delivery_is_requeued_by_exactly_one_of_several_concurrent_writes(store: Store) {
    let (later, give_up_at) = (NOW.plus_seconds(100), NOW.plus_seconds(200));
    let requeue = async |id| transact!(store, |tx| tx.requeue_delivery(id, later, give_up_at)).unwrap();
    assert!(requeue(delivery_id()).await.is_none());
    for next in [Next::Delivered, Next::Skipped, Next::Failed] {
        let [pending] = enqueue_deliveries(&store).await;
        assert!(requeue(pending.id).await.is_none(), "a pending delivery must not be requeued");
        let leased = lease_one(&store, "worker").await;
        assert!(requeue(pending.id).await.is_none(), "a leased delivery must not be requeued");
        assert_same!(fetch(&store, pending.id).await.0, status(leased, "owed", None));
        assert!(record(&store, "worker", leased, next).await);

        let requeued = run_concurrently(5, |_| {
            let store = store.clone();
            async move {
                transact!(store, |tx| tx.requeue_delivery(pending.id, later, give_up_at)).unwrap().is_some()
            }
        });
        assert_eq!(requeued.await.into_iter().filter(|again| *again).count(), 1);
        let again = changed(pending, |it| (it.next_attempt_at, it.expires_at) = (later, give_up_at));
        assert_same!(fetch(&store, pending.id).await.0, status(again, "owed", None));
        assert!(!record(&store, "worker", leased, Next::Failed).await, "the lease must have ended");

        // The requeued delivery behaves like a new one, but keeps its previous attempts.
        let leased = leak(lease_at(&store, "worker", 9, later, MAX_TIME).await).first().unwrap();
        assert_eq!((leased.id, leased.attempts), (pending.id, 1));
        assert!(record(&store, "worker", leased, Next::Delivered).await);
        let numbers =
            fetch(&store, pending.id).await.1.iter().map(|attempt| attempt.number).collect::<Vec<_>>();
        assert_eq!(numbers, [1, 2]);
    }
}

async fn failed_push_cannot_be_requeued(store: Store) {
    let user = enrolled_user(&store).await;
    let [_, push, debugger] = one_of_each(user);
    add(&store, [push, debugger]).await;
    for leased in leak(lease(&store, "worker", 2).await) {
        assert!(record(&store, "worker", leased, Next::Failed).await);
    }
    for (delivery, is_requeued) in [(push, false), (debugger, true)] {
        assert_eq!(
            transact!(store, |tx| tx.requeue_delivery(delivery.id, NOW, MAX_TIME)).unwrap().is_some(),
            is_requeued
        );
        let state = if is_requeued { "owed" } else { "failed" };
        assert_eq!(fetch(&store, delivery.id).await.0.state.as_str(), state);
    }
}

async fn released_delivery_is_due_again_and_its_attempt_is_not_counted(store: Store) {
    let [a, b, c] = enqueue_deliveries(&store).await;
    let leased = leak(lease(&store, "worker", 3).await);
    let now = NOW.plus_seconds(2);
    let back: &[_] = leak([a.id, c.id, delivery_id()]);
    transact!(store, |tx| tx.release_deliveries("worker", back, now)).unwrap();
    for delivery in [a, c] {
        let free = changed(delivery, |delivery| delivery.next_attempt_at = now);
        assert_same!(fetch(&store, delivery.id).await.0, status(free, "owed", None));
    }
    assert_same!(fetch(&store, b.id).await.0, status(&leased[1], "owed", None));
    assert!(
        !record(&store, "worker", &leased[0], Next::Delivered).await,
        "an attempt must not be recorded under a released lease"
    );

    let again = lease_at(&store, "another", 3, now, END).await;
    assert_same!(again, [a, c].map(|it| changed(it, |it| (it.attempts, it.next_attempt_at) = (1, END))));
    transact!(store, |tx| tx.release_deliveries("worker", &[], now)).unwrap();
    assert!(record(&store, "worker", &leased[1], Next::Delivered).await);
}

async fn lease_can_be_released_only_by_its_holder(store: Store) {
    let [pending] = enqueue_deliveries(&store).await;
    let ids: &[_] = leak([pending.id]);
    let release = async |lease| transact!(store, |tx| tx.release_deliveries(lease, ids, NOW)).unwrap();
    // The delivery is not leased yet, so releasing it has no effect.
    release("worker").await;
    assert_same!(fetch(&store, pending.id).await.0, status(pending, "owed", None));
    lease(&store, "first", 1).await;
    let leased = leak(lease_at(&store, "second", 1, END, MAX_TIME).await).first().unwrap();
    release("first").await;
    assert_same!(fetch(&store, pending.id).await.0, status(leased, "owed", None));
    // Releasing the delivery a second time has no further effect.
    release("second").await;
    release("second").await;
    let free = changed(pending, |delivery| (delivery.attempts, delivery.next_attempt_at) = (1, NOW));
    assert_same!(fetch(&store, pending.id).await.0, status(free, "owed", None));
}

/// Returns the criterion for stranded deliveries at `now`, with leases of 30 seconds and a maximum backoff of 600
/// seconds.
fn stranded_at(now: Timestamp) -> Stranded {
    Stranded::at(now, 30, Schedule { max_backoff_seconds: 600 })
}

/// Makes all stranded deliveries due at `now`, as a worker that holds no lease. Returns how many there were.
async fn reschedule_at(store: &Store, now: Timestamp) -> usize {
    let stranded = stranded_at(now);
    let is_any = read!(store, |db| db.has_stranded_deliveries("new", stranded)).unwrap();
    let count = transact!(store, |tx| tx.reschedule_stranded_deliveries("new", stranded, 100, now)).unwrap();
    assert_eq!(is_any, count > 0);
    assert!(
        !read!(store, |db| db.has_stranded_deliveries("new", stranded)).unwrap(),
        "stranded deliveries are left"
    );
    count
}

/// After the clock was set back, pending deliveries of every kind become due: new, leased, waiting for a retry,
/// released and requeued.
async fn delivery_scheduled_before_the_clock_was_set_back_is_stranded_and_made_due(store: Store) {
    // All deliveries except the last are due at least one second before [`NOW`].
    let [leased, waiting, released, again, new] = enqueue_deliveries(&store).await;
    let all = [leased, waiting, released, again, new].map(|delivery| delivery.id);
    let ids: &[_] = leak([released.id]);
    let before = NOW.plus_seconds(-1);
    lease_at(&store, "worker", 4, before, END).await;
    transact!(store, |tx| tx.release_deliveries("worker", ids, before)).unwrap();
    for (delivery, next) in [(waiting, Next::Retry(END)), (again, Next::Failed)] {
        let attempt = attempt(delivery, "again");
        let recorded = transact!(store, |tx| tx.record_attempt("worker", delivery, attempt, next, before));
        assert!(recorded.unwrap());
    }
    assert!(transact!(store, |tx| tx.requeue_delivery(again.id, before, MAX_TIME)).unwrap().is_some());

    // The clocks of two nodes may differ by up to the duration of a lease, which is 30 seconds here.
    assert_eq!(reschedule_at(&store, NOW.plus_seconds(-30)).await, 0);
    let back = NOW.plus_seconds(-3600);
    assert_eq!(reschedule_at(&store, back).await, 5);
    let due = lease_at(&store, "new", 9, back, back.plus_seconds(30)).await;
    assert_eq!(BTreeSet::from_iter(due.iter().map(|delivery| delivery.id)), BTreeSet::from(all));
}

/// An older server, or a server with a longer maximum backoff, may have scheduled the delivery.
async fn delivery_due_later_than_the_longest_backoff_allows_is_stranded(store: Store) {
    let [waiting] = enqueue_deliveries(&store).await;
    let leased = lease_one(&store, "worker").await;
    let (attempt, next) = (attempt(leased, "again"), Next::Retry(NOW.plus_seconds(631)));
    assert!(transact!(store, |tx| tx.record_attempt("worker", leased, attempt, next, NOW)).unwrap());
    assert_eq!(reschedule_at(&store, NOW.plus_seconds(1)).await, 0);
    assert_eq!(reschedule_at(&store, NOW).await, 1);
    assert_eq!(lease(&store, "new", 9).await[0].id, waiting.id);
}

async fn delivery_leased_by_the_same_worker_or_due_soon_is_not_stranded(store: Store) {
    let [_] = enqueue_deliveries(&store).await;
    lease_one(&store, "worker").await;
    let back = stranded_at(NOW.plus_seconds(-3600));
    assert!(!read!(store, |db| db.has_stranded_deliveries("worker", back)).unwrap());
    assert!(read!(store, |db| db.has_stranded_deliveries("another", back)).unwrap());
    let none = transact!(store, |tx| tx.reschedule_stranded_deliveries("worker", back, 100, NOW)).unwrap();
    assert_eq!(none, 0);
    // The lease expires within 30 seconds, so other workers wait until then.
    assert_eq!(reschedule_at(&store, NOW).await, 0);
    assert!(lease_at(&store, "another", 9, NOW, END).await.is_empty());
}

async fn concurrently_released_and_recorded_delivery_is_either_released_or_recorded(store: Store) {
    for _ in 0..10 {
        let [pending] = enqueue_deliveries(&store).await;
        let leased = lease_one(&store, "worker").await;
        let ids: &[_] = leak([pending.id]);
        let recorded = run_concurrently(2, |number| {
            let store = store.clone();
            async move {
                if number == 0 {
                    return record(&store, "worker", leased, Next::Failed).await;
                }
                transact!(store, |tx| tx.release_deliveries("worker", ids, NOW)).unwrap();
                false
            }
        });
        let recorded = recorded.await.contains(&true);
        let (found, attempts) = fetch(&store, pending.id).await;
        match recorded {
            true => {
                assert_eq!((found.state.as_str(), found.delivery.attempts, attempts.len()), ("failed", 1, 1))
            }
            false => {
                assert_eq!((found.state.as_str(), found.delivery.attempts, attempts.len()), ("owed", 0, 0))
            }
        }
        lease(&store, "another", 1).await;
    }
}

async fn lease_can_be_renewed_only_by_its_holder(store: Store) {
    let [a, b, c, free] = enqueue_deliveries(&store).await;
    let until = END.plus_seconds(20);
    let leased = leak(lease(&store, "worker", 3).await);
    let ids: &[_] = leak([a.id, c.id, free.id, delivery_id()]);
    for lease in ["another", "worker"] {
        transact!(store, |tx| tx.renew_leases(lease, ids, until)).unwrap();
        let renewed = if lease == "worker" { until } else { END };
        for leased in [&leased[0], &leased[2]] {
            let expected = changed(leased, |delivery| delivery.next_attempt_at = renewed);
            assert_same!(fetch(&store, leased.id).await.0, status(expected, "owed", None));
        }
        assert_same!(fetch(&store, b.id).await.0, status(&leased[1], "owed", None));
        assert_same!(fetch(&store, free.id).await.0, status(free, "owed", None));
    }
    transact!(store, |tx| tx.renew_leases("worker", &[], MAX_TIME)).unwrap();
    assert_eq!(
        read!(store, |db| db.next_delivery_due_at(MIN_TIME..=MAX_TIME, &[])).unwrap(),
        Some(free.next_attempt_at)
    );
}

async fn renewed_lease_is_not_reassigned_before_its_new_expiry(store: Store) {
    let [pending] = enqueue_deliveries(&store).await;
    let leased = lease_one(&store, "worker").await;
    let until = END.plus_seconds(20);
    let ids: &[_] = leak([pending.id]);
    transact!(store, |tx| tx.renew_leases("worker", ids, until)).unwrap();
    let just_before = Timestamp::from_micros(until.micros() - 1);
    assert_eq!(lease_at(&store, "another", 1, just_before, MAX_TIME).await.len(), 0);
    let taken_over = lease_at(&store, "another", 1, until, MAX_TIME).await;
    assert_eq!((taken_over.len(), taken_over[0].attempts), (1, 2));

    // The first worker has lost the lease, so renewing it has no effect.
    transact!(store, |tx| tx.renew_leases("worker", ids, NOW)).unwrap();
    assert_same!(fetch(&store, pending.id).await.0, status(&taken_over[0], "owed", None));
    assert!(!record(&store, "worker", leased, Next::Delivered).await);
}

async fn old_finished_deliveries_are_deleted_in_batches_with_their_attempts(store: Store) {
    let [a, b, c, d, e] = enqueue_deliveries(&store).await;
    let leased = leak(lease(&store, "worker", 5).await);
    // The deliveries finish in another order than they were enqueued. The last one, `e`, is just recent enough to be
    // kept.
    for (delivery, second) in [(d, -50), (a, -40), (c, -30), (b, -20), (e, 0)] {
        let leased = leased.iter().find(|leased| leased.id == delivery.id).unwrap();
        let end = NOW.plus_seconds(second);
        let delivered = attempt(leased, "delivered");
        let recorded =
            transact!(store, |tx| tx.record_attempt("worker", leased, delivered, Next::Delivered, end));
        assert!(recorded.unwrap());
    }
    let delete = async || transact!(store, |tx| tx.delete_old_deliveries(NOW, 3)).unwrap();
    let left = async || {
        let found = read!(store, |db| db.deliveries(&DeliveryFilter::default(), 9)).unwrap();
        ids(found.into_iter().map(|found| found.delivery))
    };
    assert_eq!(delete().await, 3);
    assert_eq!(left().await, ids([e, b]));
    assert_eq!(delete().await, 1);
    assert_eq!(delete().await, 0);
    assert_eq!(left().await, ids([e]));
    assert_eq!(fetch(&store, e.id).await.1.len(), 1);

    // The attempts of `a` were deleted with it, so a new delivery with the same id has no attempts.
    transact!(store, |tx| tx.insert_delivery(a)).unwrap();
    let (found, attempts) = fetch(&store, a.id).await;
    assert_same!(found, status(a, "owed", None));
    assert_same!(attempts, Vec::<AttemptRecord>::new());
}

async fn pending_delivery_is_not_deleted_regardless_of_its_age(store: Store) {
    let [waiting, leased, again] = enqueue_deliveries(&store).await;
    let taken = leak(lease(&store, "worker", 3).await);
    let ids: &[_] = leak([waiting.id]);
    transact!(store, |tx| tx.release_deliveries("worker", ids, NOW)).unwrap();
    assert!(record(&store, "worker", &taken[2], Next::Failed).await);
    assert!(transact!(store, |tx| tx.requeue_delivery(again.id, NOW, NOW)).unwrap().is_some());
    assert_eq!(transact!(store, |tx| tx.delete_old_deliveries(MAX_TIME, 9)).unwrap(), 0);
    for delivery in [waiting, leased, again] {
        assert_eq!(fetch(&store, delivery.id).await.0.state.as_str(), "owed");
    }
}

async fn unreadable_delivery_does_not_block_other_deliveries(database: TestDatabase) {
    let store = database.open().await;
    for (column, bad) in [("work", "{}"), ("work", "of a newer program"), ("attempts", "-9")] {
        let [unreadable, readable] = enqueue_deliveries(&store).await;
        database
            .sql(&format!(
                "UPDATE deliveries SET {column} = '{bad}' WHERE id = {}",
                database.literal(unreadable.id.to_bytes())
            ))
            .await;
        let found = read!(store, |db| db.deliveries(&DeliveryFilter::default(), 2));
        assert_refused!(found, Error::Corrupt(which) if which == column);

        assert_eq!(lease(&store, "worker", 1).await.len(), 0);
        assert_eq!(ids(lease(&store, "worker", 1).await), [readable.id]);
        assert_eq!(lease(&store, "worker", 1).await.len(), 0);
        // An unreadable delivery is also skipped if it is leased in one batch with a readable one.
        assert_eq!(ids(lease_at(&store, "worker", 2, END, MAX_TIME).await), [readable.id]);
        database.sql("DELETE FROM deliveries").await;
    }
}

/// Waits for `future` and returns its result.
///
/// # Panics
/// Panics if this takes longer than [`MAX_WAIT`].
async fn within_timeout<T>(future: impl Future<Output = T>) -> T {
    timeout(MAX_WAIT, future).await.expect("timed out")
}

async fn announcement_is_received_by_other_servers(database: TestDatabase) {
    let (one, other, third) = (database.open().await, database.open().await, database.open().await);
    let mut other_listener = other.announcements(OWN).await.unwrap().unwrap();
    let mut third_listener = third.announcements(OWN).await.unwrap().unwrap();
    for _ in 0..3 {
        one.announce(delivery_pending(), OWN).await.unwrap();
        within_timeout(other_listener.next()).await.unwrap();
        within_timeout(third_listener.next()).await.unwrap();
    }
    // Changes committed before an announcement are visible to the servers that receive it.
    for _ in 0..20 {
        let [pending] = enqueue_deliveries(&one).await;
        one.announce(delivery_pending(), OWN).await.unwrap();
        within_timeout(other_listener.next()).await.unwrap();
        assert_eq!(fetch(&other, pending.id).await.0.state.as_str(), "owed");
    }
}

/// SQL that terminates all other connections to this database and waits at most five seconds for each to end.
const KILL_CONNECTIONS: &str = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";

async fn announcement_is_received_after_connections_were_killed(database: TestDatabase) {
    let (one, other) = (database.open().await, database.open().await);
    for _ in 0..3 {
        read!(one, |db| db.require_current_schema()).unwrap();
        database.sql(KILL_CONNECTIONS).await;
        let mut listener = other.announcements(OWN).await.unwrap().unwrap();
        one.announce(delivery_pending(), OWN).await.unwrap();
        within_timeout(listener.next()).await.unwrap();
    }
}

async fn listener_returns_after_losing_its_connection_and_receives_later_announcements(
    database: TestDatabase,
) {
    let (one, other) = (database.open().await, database.open().await);
    let mut listener = other.announcements(OWN).await.unwrap().unwrap();
    for _ in 0..3 {
        database.sql(KILL_CONNECTIONS).await;
        within_timeout(listener.next()).await.unwrap();
        one.announce(delivery_pending(), OWN).await.unwrap();
        within_timeout(listener.next()).await.unwrap();
    }
}

async fn listener_can_be_dropped_outside_a_runtime(database: TestDatabase) {
    let store = database.open().await;
    // Create more listeners than the pool has connections: a dropped listener must not keep a connection.
    for _ in 0..20 {
        let listen = || {
            // The listener is dropped outside of any runtime, in a thread that then ends.
            let listener = block_on_new_runtime(store.announcements(OWN));
            drop(listener.unwrap().unwrap());
        };
        thread::scope(|scope| scope.spawn(listen).join()).unwrap();
    }
    transact!(store, |tx| tx.require_current_schema()).unwrap();
}

async fn listeners_work_after_the_runtimes_that_created_them_ended(database: TestDatabase) {
    let store = database.open().await;
    let listener = store.announcements(OWN).await.unwrap().unwrap();
    // A connection becomes unusable when the runtime that opened it ends. Listeners must not depend on such a
    // connection.
    let mut listeners = thread::scope(|scope| {
        let listen = async || {
            let mut listener = store.announcements(OWN).await.unwrap().unwrap();
            store.announce(delivery_pending(), OWN).await.unwrap();
            within_timeout(listener.next()).await.unwrap();
            listener
        };
        let threads = (0..6).map(|_| scope.spawn(move || block_on_new_runtime(listen())));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    listeners.push(listener);
    for _ in 0..10 {
        enqueue_deliveries::<1>(&store).await;
    }
    let announcer = tokio::spawn({
        let store = store.clone();
        async move {
            // Repeat until every listener has received an announcement that was sent after its runtime ended.
            loop {
                store.announce(delivery_pending(), OWN).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    for mut listener in listeners {
        for _ in 0..3 {
            within_timeout(listener.next()).await.unwrap();
        }
    }
    announcer.abort();
}

async fn closing_the_store_ends_its_listeners_with_an_error(database: TestDatabase) {
    let store = database.open().await;
    let mut listener = store.announcements(OWN).await.unwrap().unwrap();
    // One listener waits for an announcement while the store is closed, and the other is idle.
    let _idle = store.announcements(OWN).await.unwrap().unwrap();
    let (ended, ()) = within_timeout(async { tokio::join!(listener.next(), store.clone().close()) }).await;
    assert_refused!(ended, Error::Unavailable(_));
    assert_refused!(within_timeout(listener.next()).await, Error::Unavailable(_));
}

async fn closed_store_can_neither_listen_nor_announce(database: TestDatabase) {
    let store = database.open().await;
    store.clone().close().await;
    assert_refused!(within_timeout(store.announcements(OWN)).await.map(|_| ()), Error::Unavailable(_));
    assert_refused!(within_timeout(store.announce(delivery_pending(), OWN)).await, Error::Unavailable(_));
}

async fn sqlite_store_has_no_announcements(database: TestDatabase) {
    assert_has_no_announcements(database.open().await).await;
}

async fn in_memory_store_has_no_announcements(database: TestDatabase) {
    assert_has_no_announcements(database.open().await).await;
}

/// Asserts that announcing succeeds without effect, and that the store offers no announcements to
/// listen to.
async fn assert_has_no_announcements(store: Store) {
    store.announce(delivery_pending(), OWN).await.unwrap();
    assert!(store.announcements(OWN).await.unwrap().is_none());
}

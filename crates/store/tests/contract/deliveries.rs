//! The outbox, and who is told of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use domain::Timestamp;
use domain::deliveries::{AskedPush, Delivery, DeliveryId, Next, Schedule, Stranded, Work};
use store::{AttemptRecord, Conflict, DeliveryFilter, DeliveryStatus, Error, Owed, Store, Write};
use tokio::sync::Barrier;
use tokio::time::timeout;

use crate::fixtures::*;
use crate::places::Place;
use crate::together::{Gate, PATIENCE, at_once};

contract! {
    a_delivery_comes_back_as_it_was_owed,
    an_unknown_delivery_is_none,
    a_delivery_is_owed_once,
    what_is_owed_in_a_write_that_is_undone_is_not_owed,
    deliveries_are_listed_newest_first_and_filtered,
    what_is_owed_is_counted_by_kind,
    the_next_delivery_is_the_first_that_is_owed,
    what_is_due_is_leased_in_order,
    what_is_leased_is_counted_and_due_when_its_lease_ends,
    what_is_not_due_yet_is_not_leased,
    full_destinations_are_left_out,
    a_lease_that_is_undone_is_none,
    each_due_delivery_is_leased_by_one_of_many_workers,
    an_expired_lease_is_taken_over_and_its_first_holder_writes_nothing,
    a_lease_is_good_until_somebody_takes_it_over,
    each_end_of_an_attempt_is_recorded,
    attempts_are_listed_as_they_were_recorded,
    an_attempt_is_recorded_once_among_many_at_once,
    what_arrived_is_recorded_together,
    what_is_done_with_is_done_with,
    a_record_that_is_undone_leaves_the_delivery_owed,
    a_finished_delivery_is_owed_again_once,
    a_push_is_not_owed_again,
    what_is_handed_back_was_never_leased,
    only_the_holder_of_a_lease_hands_back,
    what_is_handed_back_while_it_is_recorded_is_one_of_the_two,
    a_lease_is_renewed_by_its_holder_alone,
    a_renewed_lease_is_not_taken_over_before_its_new_end,
    delivery_scheduled_in_the_future_is_stranded_and_made_due,
    delivery_due_later_than_any_wait_is_stranded,
    delivery_held_by_the_worker_or_due_soon_is_not_stranded,
    old_deliveries_are_deleted_in_batches_with_their_attempts,
    what_is_owed_is_never_too_old,
}

contract! {
    on disk:
    each_due_delivery_is_leased_by_one_of_many_servers,
    delivery_of_an_older_server_is_stranded_by_when_it_was_made,
    what_no_delivery_can_hold_stands_in_nobodys_way,
}

contract! {
    on postgres:
    nobody_waits_for_what_another_is_leasing,
    an_announcement_is_heard_by_other_servers,
    an_announcement_is_met_by_trying_again,
    whoever_listens_hears_that_he_may_have_missed_something,
    whoever_listens_may_leave_anywhere,
    announcements_are_made_and_heard_in_runtimes_that_come_and_go,
    a_store_is_closed_while_somebody_listens,
    nobody_can_listen_to_a_closed_store,
}

contract! {
    on sqlite:
    a_file_has_nobody_to_tell,
}

contract! {
    on memory:
    a_memory_has_nobody_to_tell,
}

/// When a lease that is given at [`NOW`] ends.
const END: Timestamp = Timestamp::from_micros(NOW.micros() + 30_000_000);

/// As many deliveries in the store, to one webhook, due one second after the other, the last at [`NOW`].
async fn owed<const N: usize>(store: &Store) -> [&'static Delivery; N] {
    let Family { service, .. } = family(store).await;
    let webhook = webhook(service);
    add(store, [webhook]).await;
    let mut before = N as i64;
    let deliveries = [(); N].map(|()| {
        before -= 1;
        changed(delivery(webhook), |delivery| delivery.due_at = NOW.plus_seconds(-before))
    });
    add(store, deliveries).await;
    deliveries
}

/// Leases at most `limit` of those that are due at [`NOW`], until [`END`].
async fn lease(store: &Store, lease: &'static str, limit: usize) -> Vec<Delivery> {
    lease_at(store, lease, limit, NOW, END).await
}

async fn lease_at(
    store: &Store,
    lease: &'static str,
    limit: usize,
    now: Timestamp,
    until: Timestamp,
) -> Vec<Delivery> {
    let leased = transact!(store, |tx| tx.lease_deliveries(lease, &[], limit, now, until));
    let mut leased = leased.unwrap();
    // Which are leased has an order; among themselves they have none.
    leased.sort_by_key(|delivery| delivery.id);
    leased
}

/// Leases the only delivery that is due.
async fn lease_one(store: &Store, lease: &'static str) -> &'static Delivery {
    let leased = self::lease(store, lease, 2).await;
    assert_eq!(leased.len(), 1);
    keep(leased).first().unwrap()
}

/// Records an attempt that ended one second after [`NOW`].
async fn record(store: &Store, lease: &'static str, delivery: &'static Delivery, next: Next) -> bool {
    let ending = match next {
        Next::At(_) => "again",
        Next::Delivered => "delivered",
        Next::Skipped => "skipped",
        Next::Failed => "failed",
    };
    let attempt = attempt(delivery, ending);
    transact!(store, |tx| tx.record_attempt(lease, delivery, attempt, next, NOW.plus_seconds(1))).unwrap()
}

async fn look(store: &Store, id: DeliveryId) -> (DeliveryStatus, Vec<AttemptRecord>) {
    read!(store, |db| db.delivery(id)).unwrap().unwrap()
}

fn status(delivery: &Delivery, state: &str, finished_at: Option<Timestamp>) -> DeliveryStatus {
    DeliveryStatus { delivery: delivery.clone(), state: state.to_owned(), finished_at }
}

fn ids<D: std::borrow::Borrow<Delivery>>(deliveries: impl IntoIterator<Item = D>) -> Vec<DeliveryId> {
    deliveries.into_iter().map(|delivery| delivery.borrow().id).collect()
}

/// One delivery of each kind, of which no field is empty.
fn one_of_each(family: Family) -> [&'static Delivery; 3] {
    let like = delivery(webhook(family.service));
    let parameters = vec![
        ("empty".to_owned(), String::new()),
        ("twice".to_owned(), "\r\n\t\u{0}".to_owned()),
        ("twice".to_owned(), AWKWARD.to_owned()),
    ];
    let with = |work| {
        changed(like, |delivery| {
            (delivery.id, delivery.work) = (delivery_id(), work);
            delivery.destination = AWKWARD.to_owned();
            (delivery.created_at, delivery.due_at, delivery.give_up_at) = (FIRST, NOW, LAST);
        })
    };
    [
        with(Work::Webhook {
            webhook_sid: sid(),
            service_sid: sid(),
            parameters: parameters.clone(),
            once: true,
        }),
        with(Work::Push(AskedPush {
            challenge_sid: sid(),
            factor_sid: sid(),
            service_sid: sid(),
            identity: AWKWARD.to_owned(),
            notification_sid: Some(sid()),
            ttl: u32::MAX,
        })),
        with(Work::Debugger { alert_sid: sid(), parameters }),
    ]
}

async fn a_delivery_comes_back_as_it_was_owed(store: Store) {
    let family = family(&store).await;
    let plain = delivery(webhook(family.service));
    let first_push = changed(one_of_each(family)[1], |delivery| {
        delivery.id = delivery_id();
        if let Work::Push(push) = &mut delivery.work {
            (push.notification_sid, push.ttl) = (None, 0);
        }
    });
    for delivery in [plain, first_push].into_iter().chain(one_of_each(family)) {
        transact!(store, |tx| tx.owe(delivery)).unwrap();
        let (found, attempts) = look(&store, delivery.id).await;
        assert_same!(found, status(delivery, "owed", None));
        assert_same!(attempts, Vec::<AttemptRecord>::new());
    }
}

async fn an_unknown_delivery_is_none(store: Store) {
    owed::<1>(&store).await;
    let id = delivery_id();
    assert_same!(read!(store, |db| db.delivery(id)).unwrap(), None::<(DeliveryStatus, Vec<AttemptRecord>)>);
}

async fn a_delivery_is_owed_once(store: Store) {
    let [delivery] = owed(&store).await;
    assert_refused!(transact!(store, |tx| tx.owe(delivery)), Error::Conflict(Conflict::Other));
}

async fn what_is_owed_in_a_write_that_is_undone_is_not_owed(store: Store) {
    let webhook = webhook(family(&store).await.service);
    let deliveries: Vec<_> = (0..60).map(|_| delivery(webhook)).collect();
    // At once, so that on SQLite they share transactions.
    let outcomes = at_once(deliveries.len(), |number| {
        let (store, delivery) = (store.clone(), deliveries[number]);
        let owe = async move |tx: &mut Write| {
            tx.owe(delivery).await?;
            if number % 3 == 0 { Err(Error::Panicked) } else { Ok(delivery.id) }
        };
        async move { store.write(owe).await.ok() }
    });
    let kept: BTreeSet<_> = outcomes.await.into_iter().flatten().collect();
    assert_eq!(kept.len(), 40);
    let found = read!(store, |db| db.deliveries(&DeliveryFilter::default(), 100)).unwrap();
    assert_eq!(found.into_iter().map(|found| found.delivery.id).collect::<BTreeSet<_>>(), kept);
    assert_eq!(ids(lease(&store, "worker", 100).await).into_iter().collect::<BTreeSet<_>>(), kept);
}

async fn deliveries_are_listed_newest_first_and_filtered(store: Store) {
    let family = family(&store).await;
    let (one, other) = (webhook(family.service), webhook(family.service));
    let [_, push, debugger] = one_of_each(family);
    let made = |like| changed(like, |it: &mut Delivery| it.id = delivery_id());
    let [first, second, third, fourth, fifth] =
        [delivery(one), debugger, delivery(one), push, delivery(other)].map(made);
    add(&store, [fifth, third, second, first, fourth]).await;
    let leased = lease(&store, "worker", 5).await;
    let skipped = keep(leased.into_iter().find(|delivery| delivery.id == first.id).unwrap());
    assert!(record(&store, "worker", skipped, Next::Skipped).await);

    let Work::Push(AskedPush { factor_sid, .. }) = push.work else { panic!() };
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

async fn what_is_owed_is_counted_by_kind(store: Store) {
    let counted = async || {
        let mut owed = read!(store, |db| db.owed()).unwrap();
        owed.sort_by(|a, b| a.kind.cmp(&b.kind));
        owed
    };
    assert_eq!(counted().await, []);
    let family = family(&store).await;
    let plain = changed(delivery(webhook(family.service)), |delivery| delivery.created_at = NOW);
    let [webhook, push, debugger] = one_of_each(family);
    add(&store, [plain, webhook, push, debugger]).await;
    let of = |kind: &str, deliveries, oldest| Owed { kind: kind.to_owned(), deliveries, oldest };
    let each = [of("debugger", 1, FIRST), of("push", 1, FIRST), of("webhook", 2, FIRST)];
    assert_eq!(counted().await, each);
    // What is leased is owed still, what is done with is not.
    let leased = keep(lease(&store, "worker", 9).await);
    assert_eq!(counted().await, each);
    for delivery in leased.iter().filter(|delivery| delivery.id != plain.id) {
        assert!(record(&store, "worker", delivery, Next::Delivered).await);
    }
    assert_eq!(counted().await, [of("webhook", 1, NOW)]);
}

async fn the_next_delivery_is_the_first_that_is_owed(store: Store) {
    let next_due = async || read!(store, |db| db.next_due()).unwrap();
    assert_eq!(next_due().await, None);
    let [first, _, last] = owed(&store).await;
    assert_eq!(next_due().await, Some(first.due_at));
    // One that is leased is due again when its lease ends.
    let leased = keep(lease(&store, "worker", 2).await);
    assert_eq!(next_due().await, Some(last.due_at));
    lease(&store, "worker", 1).await;
    assert_eq!(next_due().await, Some(END));
    assert!(record(&store, "worker", &leased[0], Next::At(FIRST)).await);
    assert_eq!(next_due().await, Some(FIRST));
    let again = keep(lease_at(&store, "worker", 5, NOW, LAST).await);
    assert!(record(&store, "worker", &again[0], Next::Failed).await);
    assert_eq!(next_due().await, Some(END));
}

async fn what_is_due_is_leased_in_order(store: Store) {
    let [e, d, c, b, a] = owed(&store).await;
    // It is not their names that count.
    let [a, b, c, d, e] = [(a, -50), (b, -40), (c, -30), (d, -20), (e, -10)].map(|(delivery, second)| {
        changed(delivery, |it| (it.id, it.due_at) = (delivery.id, NOW.plus_seconds(second)))
    });
    // All of them anew, in that order.
    lease(&store, "worker", 5).await;
    let place = async move |tx: &mut Write| {
        for delivery in [a, b, c, d, e] {
            let attempt = attempt(changed(delivery, |it| it.attempts = 1), "again");
            tx.record_attempt("worker", delivery, attempt, Next::At(delivery.due_at), NOW).await?;
        }
        Ok::<_, Error>(())
    };
    store.write(place).await.unwrap();
    for expected in [vec![a], vec![b, c], vec![d, e], vec![]] {
        let limit = expected.len().max(1);
        let found: BTreeSet<_> = ids(lease(&store, "worker", limit).await).into_iter().collect();
        assert_eq!(found, ids(expected).into_iter().collect());
    }
}

async fn what_is_leased_is_counted_and_due_when_its_lease_ends(store: Store) {
    let [one, other] = owed(&store).await;
    let leased = [one, other].map(|it| changed(it, |it| (it.attempts, it.due_at) = (1, END)));
    assert_same!(lease(&store, "worker", 2).await, leased);
    for leased in leased {
        assert_same!(look(&store, leased.id).await.0, status(leased, "owed", None));
    }
    // Nobody records them, again and again.
    let mut now = END;
    for attempts in 2..5 {
        let until = now.plus_seconds(30);
        let leased = [one, other].map(|it| changed(it, |it| (it.attempts, it.due_at) = (attempts, until)));
        assert_same!(lease_at(&store, "another", 2, now, until).await, leased);
        now = until;
    }
}

async fn what_is_not_due_yet_is_not_leased(store: Store) {
    let [_, last] = owed(&store).await;
    let moment = |micros| Timestamp::from_micros(last.due_at.micros() + micros);
    assert_eq!(lease_at(&store, "worker", 2, moment(-1), END).await.len(), 1);
    assert_eq!(lease_at(&store, "worker", 2, moment(-1), END).await.len(), 0);
    assert_eq!(ids(lease_at(&store, "worker", 2, moment(0), END).await), [last.id]);
    // Neither is what is leased, to whomever, until that ends.
    let just_before = Timestamp::from_micros(END.micros() - 1);
    for worker in ["worker", "another"] {
        assert_eq!(lease_at(&store, worker, 2, just_before, LAST).await.len(), 0);
    }
    assert_eq!(lease_at(&store, "another", 2, END, LAST).await.len(), 2);
}

async fn full_destinations_are_left_out(store: Store) {
    let like = delivery(webhook(family(&store).await.service));
    let to = |destination: &str| {
        changed(like, |it| (it.id, it.destination) = (delivery_id(), destination.to_owned()))
    };
    let [a, b, c, awkward] = ["a.example:443", "b.example:443", "a.example:80", AWKWARD].map(to);
    add(&store, [a, b, c, awkward]).await;
    let lease = async |full: &[&str], limit| {
        let full: Vec<_> = full.iter().map(|&destination| destination.to_owned()).collect();
        let leased = transact!(store, |tx| tx.lease_deliveries("worker", &full, limit, NOW, END));
        ids(leased.unwrap()).into_iter().collect::<BTreeSet<_>>()
    };
    let set = |deliveries: &[&Delivery]| ids(deliveries.iter().copied()).into_iter().collect::<BTreeSet<_>>();
    // The limit counts what is leased.
    let full = [AWKWARD, "a.example:443", "b.example:443", "nobody.example:443"];
    assert_eq!(lease(&full, 1).await, set(&[c]));
    assert_eq!(lease(&full, 9).await, set(&[]));
    assert_eq!(lease(&["b.example:443"], 9).await, set(&[a, awkward]));
    let many: Vec<_> = (0..500).map(|number| format!("{number}.example:443")).collect();
    assert_eq!(lease(&many.iter().map(String::as_str).collect::<Vec<_>>(), 9).await, set(&[b]));
}

async fn a_lease_that_is_undone_is_none(store: Store) {
    let [delivery] = owed(&store).await;
    let undone = store.write(async |tx: &mut Write| {
        assert_eq!(tx.lease_deliveries("worker", &[], 1, NOW, END).await?.len(), 1);
        Err::<(), _>(Error::Panicked)
    });
    assert_refused!(undone.await, Error::Panicked);
    assert_same!(look(&store, delivery.id).await.0, status(delivery, "owed", None));
}

/// Has twelve workers lease until there is nothing left, a few at a time, and checks that each of the many
/// deliveries was leased once, and counted once.
async fn race(stores: &[Store]) {
    const WORKERS: usize = 12;
    let store = &stores[0];
    let webhook = webhook(family(store).await.service);
    let deliveries: Vec<_> = (0..400)
        // Many are due at the same instant.
        .map(|number| changed(delivery(webhook), |it| it.due_at = NOW.plus_seconds(-(number % 7))))
        .collect();
    add(store, deliveries.clone()).await;
    let ready = Arc::new(Barrier::new(WORKERS));
    let leased = at_once(WORKERS, |number| {
        let (store, ready) = (stores[number % stores.len()].clone(), Arc::clone(&ready));
        let name: &str = keep(format!("worker {number}"));
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

async fn each_due_delivery_is_leased_by_one_of_many_workers(store: Store) {
    race(&[store]).await;
}

async fn each_due_delivery_is_leased_by_one_of_many_servers(place: Place) {
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(place.open().await);
    }
    race(&stores).await;
}

async fn nobody_waits_for_what_another_is_leasing(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    let [a, b, c, d] = owed(&one).await;
    let (leased, go_on) = (Gate::closed(), Gate::closed());
    let slow = tokio::spawn(async move {
        let lease = one.write(async move |tx: &mut Write| {
            let first = tx.lease_deliveries("slow", &[], 2, NOW, END).await?;
            leased.open();
            go_on.pass().await;
            match first.len() {
                2 => Err::<(), _>(Error::Panicked),
                _ => Ok(()),
            }
        });
        assert_refused!(lease.await, Error::Panicked);
    });
    leased.pass().await;
    let quick = timeout(PATIENCE, lease(&other, "quick", 3)).await;
    assert_eq!(ids(quick.expect("it waits for the other")), ids([c, d]));
    go_on.open();
    slow.await.unwrap();
    // The other's didn't come to pass.
    assert_eq!(ids(lease(&other, "quick", 3).await), ids([a, b]));
}

async fn an_expired_lease_is_taken_over_and_its_first_holder_writes_nothing(store: Store) {
    let [owed] = owed(&store).await;
    let first = lease_one(&store, "first").await;
    let end = END.plus_seconds(30);
    let second = keep(lease_at(&store, "second", 1, END, end).await);
    let expected = changed(owed, |delivery| (delivery.attempts, delivery.due_at) = (2, end));
    assert_same!(*second, vec![expected]);

    for next in [Next::Delivered, Next::Skipped, Next::Failed, Next::At(NOW)] {
        assert!(!record(&store, "first", first, next).await);
        let (found, attempts) = look(&store, owed.id).await;
        assert_same!(found, status(expected, "owed", None));
        assert_same!(attempts, Vec::<AttemptRecord>::new());
    }
    assert!(record(&store, "second", &second[0], Next::Delivered).await);
    assert!(!record(&store, "first", first, Next::Failed).await);
    let (found, attempts) = look(&store, owed.id).await;
    assert_same!(found, status(expected, "delivered", Some(NOW.plus_seconds(1))));
    assert_same!(attempts, [attempt(first, "delivered")]);
}

/// Whoever is late but alone has made the attempt all the same.
async fn a_lease_is_good_until_somebody_takes_it_over(store: Store) {
    let [owed] = owed(&store).await;
    let leased = lease_one(&store, "worker").await;
    let late = END.plus_seconds(3600);
    let delivered = attempt(leased, "delivered");
    let recorded =
        transact!(store, |tx| tx.record_attempt("worker", leased, delivered, Next::Delivered, late));
    assert!(recorded.unwrap());
    assert_same!(look(&store, owed.id).await.0, status(leased, "delivered", Some(late)));
}

async fn each_end_of_an_attempt_is_recorded(store: Store) {
    let ended_at = NOW.plus_seconds(1);
    for (next, state, is_over) in [
        (Next::Delivered, "delivered", true),
        (Next::Skipped, "skipped", true),
        (Next::Failed, "failed", true),
        (Next::At(NOW.plus_seconds(5)), "owed", false),
    ] {
        let [_, bystander] = owed(&store).await;
        let leased = keep(lease(&store, "worker", 1).await).first().unwrap();
        assert!(record(&store, "worker", leased, next).await);
        let expected = changed(leased, |it| it.due_at = if is_over { END } else { NOW.plus_seconds(5) });
        let (found, attempts) = look(&store, leased.id).await;
        assert_same!(found, status(expected, state, is_over.then_some(ended_at)));
        let ending = if is_over { state } else { "again" };
        assert_same!(attempts, [attempt(leased, ending)]);
        assert_same!(look(&store, bystander.id).await.0, status(bystander, "owed", None));

        // It was handed over: the lease is nobody's now.
        assert!(!record(&store, "worker", leased, Next::Delivered).await);
        lease(&store, "another", 1).await;
        let later = lease_at(&store, "another", 1, NOW.plus_seconds(5), LAST).await;
        assert_eq!(ids(later), if is_over { vec![] } else { vec![leased.id] });
    }
}

async fn attempts_are_listed_as_they_were_recorded(store: Store) {
    let [owed, bystander] = owed(&store).await;
    let plain = attempt(changed(owed, |delivery| delivery.attempts = 1), "again");
    let full = keep(AttemptRecord {
        number: 2,
        began_at: FIRST,
        milliseconds: i64::MAX,
        ending: "again".to_owned(),
        error_code: Some(u32::MAX),
        status: Some(u16::MAX),
        detail: Some(AWKWARD.repeat(20)),
    });
    let last = keep(AttemptRecord {
        number: 3,
        ending: "failed".to_owned(),
        detail: Some(String::new()),
        ..plain.clone()
    });
    for (attempt, next) in [(plain, Next::At(NOW)), (full, Next::At(NOW)), (last, Next::Failed)] {
        let leased = lease(&store, "worker", 2).await;
        let leased = keep(leased).iter().find(|leased| leased.id == owed.id).unwrap();
        assert_eq!(leased.attempts, attempt.number);
        // It is counted here, whatever anybody says.
        let attempt = keep(AttemptRecord { number: 7, ..attempt.clone() });
        let recorded = transact!(store, |tx| tx.record_attempt("worker", leased, attempt, next, NOW));
        assert!(recorded.unwrap());
    }
    assert_same!(look(&store, owed.id).await.1, [plain, full, last]);
    assert_same!(look(&store, bystander.id).await.1, Vec::<AttemptRecord>::new());
}

/// All but those whose lease is somebody else's by now, that nobody leased, or that are done with.
async fn what_arrived_is_recorded_together(store: Store) {
    let [first, second, taken_over, done, unleased] = owed(&store).await;
    let leased = keep(lease(&store, "worker", 4).await);
    let attempts: Vec<&AttemptRecord> = leased
        .iter()
        .map(|leased| {
            let plain = attempt(leased, "delivered").clone();
            match leased.id == second.id {
                true => keep(AttemptRecord { status: Some(204), detail: Some(AWKWARD.repeat(20)), ..plain }),
                false => keep(plain),
            }
        })
        .collect();
    let another = lease_at(&store, "another", 9, END, LAST).await;
    let back = another.iter().map(|leased| leased.id).filter(|id| *id != taken_over.id && *id != unleased.id);
    let back: Vec<DeliveryId> = back.collect();
    transact!(store, |tx| tx.release_deliveries("another", &back, NOW)).unwrap();
    let leased = keep(lease(&store, "worker", 9).await);
    let mine = leased.iter().find(|leased| leased.id == done.id).unwrap();
    assert!(record(&store, "worker", mine, Next::Skipped).await);

    let ended_at = NOW.plus_seconds(1);
    let ids = [first.id, second.id, taken_over.id, done.id, unleased.id];
    let batch: Vec<_> = ids
        .iter()
        .map(|id| {
            let attempt = attempts.iter().zip(ids).find(|(_, known)| known == id);
            (*id, attempt.map_or_else(|| attempts[0].clone(), |(attempt, _)| (*attempt).clone()), ended_at)
        })
        .collect();
    let batch = keep(batch);
    for _ in 0..2 {
        transact!(store, |tx| tx.record_delivered("worker", batch)).unwrap();
    }
    for (id, wanted) in [(first.id, attempts[0]), (second.id, attempts[1])] {
        let (found, recorded) = look(&store, id).await;
        assert_eq!((found.state.as_str(), found.finished_at), ("delivered", Some(ended_at)));
        assert_same!(recorded, [wanted]);
    }
    for (id, state, count) in [(taken_over.id, "owed", 0), (done.id, "skipped", 1), (unleased.id, "owed", 0)]
    {
        let (found, recorded) = look(&store, id).await;
        assert_eq!((found.state.as_str(), recorded.len()), (state, count));
    }
    transact!(store, |tx| tx.record_delivered("worker", &[])).unwrap();
}

async fn an_attempt_is_recorded_once_among_many_at_once(store: Store) {
    let [owed] = owed(&store).await;
    let leased = lease_one(&store, "worker").await;
    let recorded = at_once(20, |number| {
        let store = store.clone();
        let next = if number % 2 == 0 { Next::Delivered } else { Next::At(NOW) };
        async move { record(&store, "worker", leased, next).await }
    });
    assert_eq!(recorded.await.into_iter().filter(|recorded| *recorded).count(), 1);
    assert_eq!(look(&store, owed.id).await.1.len(), 1);
}

async fn what_is_done_with_is_done_with(store: Store) {
    for next in [Next::Delivered, Next::Skipped, Next::Failed] {
        let [owed] = owed(&store).await;
        let leased = lease_one(&store, "worker").await;
        assert!(record(&store, "worker", leased, next).await);
        let (before, _) = look(&store, owed.id).await;
        assert!(!record(&store, "worker", leased, Next::At(NOW)).await);
        let ids: &[_] = keep([owed.id]);
        transact!(store, |tx| tx.renew_leases("worker", ids, NOW)).unwrap();
        transact!(store, |tx| tx.release_deliveries("worker", ids, NOW)).unwrap();
        assert_eq!(lease_at(&store, "another", 9, LAST, LAST).await.len(), 0);
        assert_eq!(read!(store, |db| db.next_due()).unwrap(), None);
        let (after, attempts) = look(&store, owed.id).await;
        assert_same!(after, before);
        assert_eq!(attempts.len(), 1);
    }
}

async fn a_record_that_is_undone_leaves_the_delivery_owed(store: Store) {
    let [owed] = owed(&store).await;
    let leased = lease_one(&store, "worker").await;
    let undone = store.write(async |tx: &mut Write| {
        let recorded = tx.record_attempt("worker", leased, attempt(leased, "failed"), Next::Failed, NOW);
        assert!(recorded.await?);
        Err::<(), _>(Error::Panicked)
    });
    assert_refused!(undone.await, Error::Panicked);
    let (found, attempts) = look(&store, owed.id).await;
    assert_same!(found, status(leased, "owed", None));
    assert_same!(attempts, Vec::<AttemptRecord>::new());
    assert!(record(&store, "worker", leased, Next::Failed).await);
}

async fn a_finished_delivery_is_owed_again_once(store: Store) {
    let (later, give_up_at) = (NOW.plus_seconds(100), NOW.plus_seconds(200));
    let owe_again = async |id| transact!(store, |tx| tx.owe_again(id, later, give_up_at)).unwrap();
    assert!(owe_again(delivery_id()).await.is_none());
    for next in [Next::Delivered, Next::Skipped, Next::Failed] {
        let [owed] = owed(&store).await;
        assert!(owe_again(owed.id).await.is_none(), "it is owed");
        let leased = lease_one(&store, "worker").await;
        assert!(owe_again(owed.id).await.is_none(), "it is leased");
        assert_same!(look(&store, owed.id).await.0, status(leased, "owed", None));
        assert!(record(&store, "worker", leased, next).await);

        let owed_again = at_once(5, |_| {
            let store = store.clone();
            async move { transact!(store, |tx| tx.owe_again(owed.id, later, give_up_at)).unwrap().is_some() }
        });
        assert_eq!(owed_again.await.into_iter().filter(|again| *again).count(), 1);
        let again = changed(owed, |it| (it.due_at, it.give_up_at) = (later, give_up_at));
        assert_same!(look(&store, owed.id).await.0, status(again, "owed", None));
        assert!(!record(&store, "worker", leased, Next::Failed).await, "that lease is over");

        // As if it were new, but for its past.
        let leased = keep(lease_at(&store, "worker", 9, later, LAST).await).first().unwrap();
        assert_eq!((leased.id, leased.attempts), (owed.id, 1));
        assert!(record(&store, "worker", leased, Next::Delivered).await);
        let numbers = look(&store, owed.id).await.1.iter().map(|attempt| attempt.number).collect::<Vec<_>>();
        assert_eq!(numbers, [1, 2]);
    }
}

async fn a_push_is_not_owed_again(store: Store) {
    let family = family(&store).await;
    let [_, push, debugger] = one_of_each(family);
    add(&store, [push, debugger]).await;
    for leased in keep(lease(&store, "worker", 2).await) {
        assert!(record(&store, "worker", leased, Next::Failed).await);
    }
    for (delivery, is_owed) in [(push, false), (debugger, true)] {
        assert_eq!(transact!(store, |tx| tx.owe_again(delivery.id, NOW, LAST)).unwrap().is_some(), is_owed);
        let state = if is_owed { "owed" } else { "failed" };
        assert_eq!(look(&store, delivery.id).await.0.state, state);
    }
}

async fn what_is_handed_back_was_never_leased(store: Store) {
    let [a, b, c] = owed(&store).await;
    let leased = keep(lease(&store, "worker", 3).await);
    let now = NOW.plus_seconds(2);
    let back: &[_] = keep([a.id, c.id, delivery_id()]);
    transact!(store, |tx| tx.release_deliveries("worker", back, now)).unwrap();
    for delivery in [a, c] {
        let free = changed(delivery, |delivery| delivery.due_at = now);
        assert_same!(look(&store, delivery.id).await.0, status(free, "owed", None));
    }
    assert_same!(look(&store, b.id).await.0, status(&leased[1], "owed", None));
    assert!(!record(&store, "worker", &leased[0], Next::Delivered).await, "its lease is nobody's");

    let again = lease_at(&store, "another", 3, now, END).await;
    assert_same!(again, [a, c].map(|it| changed(it, |it| (it.attempts, it.due_at) = (1, END))));
    transact!(store, |tx| tx.release_deliveries("worker", &[], now)).unwrap();
    assert!(record(&store, "worker", &leased[1], Next::Delivered).await);
}

async fn only_the_holder_of_a_lease_hands_back(store: Store) {
    let [owed] = owed(&store).await;
    let ids: &[_] = keep([owed.id]);
    let release = async |lease| transact!(store, |tx| tx.release_deliveries(lease, ids, NOW)).unwrap();
    // It is nobody's.
    release("worker").await;
    assert_same!(look(&store, owed.id).await.0, status(owed, "owed", None));
    lease(&store, "first", 1).await;
    let leased = keep(lease_at(&store, "second", 1, END, LAST).await).first().unwrap();
    release("first").await;
    assert_same!(look(&store, owed.id).await.0, status(leased, "owed", None));
    // Twice is no more than once.
    release("second").await;
    release("second").await;
    let free = changed(owed, |delivery| (delivery.attempts, delivery.due_at) = (1, NOW));
    assert_same!(look(&store, owed.id).await.0, status(free, "owed", None));
}

/// What is stranded at an instant, where a lease lasts for 30 seconds and no wait is longer than 600.
fn stranded_at(now: Timestamp) -> Stranded {
    Stranded::at(now, 30, Schedule { longest: 600 })
}

/// How many deliveries are stranded at an instant and made due then, by a worker that has no lease.
async fn reschedule_at(store: &Store, now: Timestamp) -> usize {
    let stranded = stranded_at(now);
    let is_any = read!(store, |db| db.has_stranded_deliveries("new", stranded)).unwrap();
    let count = transact!(store, |tx| tx.reschedule_stranded_deliveries("new", stranded, 100, now)).unwrap();
    assert_eq!(is_any, count > 0);
    assert!(!read!(store, |db| db.has_stranded_deliveries("new", stranded)).unwrap(), "not twice");
    count
}

/// The clock is set back: what was new, leased, waiting, handed back and owed again waits no longer.
async fn delivery_scheduled_in_the_future_is_stranded_and_made_due(store: Store) {
    // All but the last are due a second before.
    let [leased, waiting, released, again, new] = owed(&store).await;
    let all = [leased, waiting, released, again, new].map(|delivery| delivery.id);
    let ids: &[_] = keep([released.id]);
    let before = NOW.plus_seconds(-1);
    lease_at(&store, "worker", 4, before, END).await;
    transact!(store, |tx| tx.release_deliveries("worker", ids, before)).unwrap();
    for (delivery, next) in [(waiting, Next::At(END)), (again, Next::Failed)] {
        let attempt = attempt(delivery, "again");
        let recorded = transact!(store, |tx| tx.record_attempt("worker", delivery, attempt, next, before));
        assert!(recorded.unwrap());
    }
    assert!(transact!(store, |tx| tx.owe_again(again.id, before, LAST)).unwrap().is_some());

    // Clocks of nodes differ by less than a lease.
    assert_eq!(reschedule_at(&store, NOW.plus_seconds(-30)).await, 0);
    let back = NOW.plus_seconds(-3600);
    assert_eq!(reschedule_at(&store, back).await, 5);
    let due = lease_at(&store, "new", 9, back, back.plus_seconds(30)).await;
    assert_eq!(BTreeSet::from_iter(due.iter().map(|delivery| delivery.id)), BTreeSet::from(all));
}

/// As an older server left it, or one whose longest wait was longer.
async fn delivery_due_later_than_any_wait_is_stranded(store: Store) {
    let [waiting] = owed(&store).await;
    let leased = lease_one(&store, "worker").await;
    let (attempt, next) = (attempt(leased, "again"), Next::At(NOW.plus_seconds(631)));
    assert!(transact!(store, |tx| tx.record_attempt("worker", leased, attempt, next, NOW)).unwrap());
    assert_eq!(reschedule_at(&store, NOW.plus_seconds(1)).await, 0);
    assert_eq!(reschedule_at(&store, NOW).await, 1);
    assert_eq!(lease(&store, "new", 9).await[0].id, waiting.id);
}

async fn delivery_held_by_the_worker_or_due_soon_is_not_stranded(store: Store) {
    let [_] = owed(&store).await;
    lease_one(&store, "worker").await;
    let back = stranded_at(NOW.plus_seconds(-3600));
    assert!(!read!(store, |db| db.has_stranded_deliveries("worker", back)).unwrap());
    assert!(read!(store, |db| db.has_stranded_deliveries("another", back)).unwrap());
    let none = transact!(store, |tx| tx.reschedule_stranded_deliveries("worker", back, 100, NOW)).unwrap();
    assert_eq!(none, 0);
    // Its lease ends as planned.
    assert_eq!(reschedule_at(&store, NOW).await, 0);
    assert!(lease_at(&store, "another", 9, NOW, END).await.is_empty());
}

async fn delivery_of_an_older_server_is_stranded_by_when_it_was_made(place: Place) {
    let store = place.open().await;
    let [_] = owed(&store).await;
    place.sql("UPDATE deliveries SET scheduled_at = NULL").await;
    assert_eq!(reschedule_at(&store, NOW).await, 0);
    assert_eq!(reschedule_at(&store, NOW.plus_seconds(-31)).await, 1);
    store.close().await;
}

async fn what_is_handed_back_while_it_is_recorded_is_one_of_the_two(store: Store) {
    for _ in 0..10 {
        let [owed] = owed(&store).await;
        let leased = lease_one(&store, "worker").await;
        let ids: &[_] = keep([owed.id]);
        let recorded = at_once(2, |number| {
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
        let (found, attempts) = look(&store, owed.id).await;
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

async fn a_lease_is_renewed_by_its_holder_alone(store: Store) {
    let [a, b, c, free] = owed(&store).await;
    let until = END.plus_seconds(20);
    let leased = keep(lease(&store, "worker", 3).await);
    let ids: &[_] = keep([a.id, c.id, free.id, delivery_id()]);
    for lease in ["another", "worker"] {
        transact!(store, |tx| tx.renew_leases(lease, ids, until)).unwrap();
        let renewed = if lease == "worker" { until } else { END };
        for leased in [&leased[0], &leased[2]] {
            let expected = changed(leased, |delivery| delivery.due_at = renewed);
            assert_same!(look(&store, leased.id).await.0, status(expected, "owed", None));
        }
        assert_same!(look(&store, b.id).await.0, status(&leased[1], "owed", None));
        assert_same!(look(&store, free.id).await.0, status(free, "owed", None));
    }
    transact!(store, |tx| tx.renew_leases("worker", &[], LAST)).unwrap();
    assert_eq!(read!(store, |db| db.next_due()).unwrap(), Some(free.due_at));
}

async fn a_renewed_lease_is_not_taken_over_before_its_new_end(store: Store) {
    let [owed] = owed(&store).await;
    let leased = lease_one(&store, "worker").await;
    let until = END.plus_seconds(20);
    let ids: &[_] = keep([owed.id]);
    transact!(store, |tx| tx.renew_leases("worker", ids, until)).unwrap();
    let just_before = Timestamp::from_micros(until.micros() - 1);
    assert_eq!(lease_at(&store, "another", 1, just_before, LAST).await.len(), 0);
    let taken_over = lease_at(&store, "another", 1, until, LAST).await;
    assert_eq!((taken_over.len(), taken_over[0].attempts), (1, 2));

    // Too late.
    transact!(store, |tx| tx.renew_leases("worker", ids, NOW)).unwrap();
    assert_same!(look(&store, owed.id).await.0, status(&taken_over[0], "owed", None));
    assert!(!record(&store, "worker", leased, Next::Delivered).await);
}

async fn old_deliveries_are_deleted_in_batches_with_their_attempts(store: Store) {
    let [a, b, c, d, e] = owed(&store).await;
    let leased = keep(lease(&store, "worker", 5).await);
    // They end in another order than they began; the last just in time to stay.
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
    assert_eq!(look(&store, e.id).await.1.len(), 1);

    // If one came again, it would have no past.
    transact!(store, |tx| tx.owe(a)).unwrap();
    let (found, attempts) = look(&store, a.id).await;
    assert_same!(found, status(a, "owed", None));
    assert_same!(attempts, Vec::<AttemptRecord>::new());
}

async fn what_is_owed_is_never_too_old(store: Store) {
    let [waiting, leased, again] = owed(&store).await;
    let taken = keep(lease(&store, "worker", 3).await);
    let ids: &[_] = keep([waiting.id]);
    transact!(store, |tx| tx.release_deliveries("worker", ids, NOW)).unwrap();
    assert!(record(&store, "worker", &taken[2], Next::Failed).await);
    assert!(transact!(store, |tx| tx.owe_again(again.id, NOW, NOW)).unwrap().is_some());
    assert_eq!(transact!(store, |tx| tx.delete_old_deliveries(LAST, 9)).unwrap(), 0);
    for delivery in [waiting, leased, again] {
        assert_eq!(look(&store, delivery.id).await.0.state, "owed");
    }
}

async fn what_no_delivery_can_hold_stands_in_nobodys_way(place: Place) {
    let store = place.open().await;
    for (column, bad) in [("id", "x"), ("work", "{}"), ("work", "of a newer program"), ("attempts", "-9")] {
        let [unreadable, readable] = owed(&store).await;
        place.sql(&format!("UPDATE deliveries SET {column} = '{bad}' WHERE id = '{}'", unreadable.id)).await;
        let found = read!(store, |db| db.deliveries(&DeliveryFilter::default(), 2));
        assert_refused!(found, Error::Corrupt(which) if which == column);

        assert_eq!(lease(&store, "worker", 1).await.len(), 0);
        assert_eq!(ids(lease(&store, "worker", 1).await), [readable.id]);
        assert_eq!(lease(&store, "worker", 1).await.len(), 0);
        // Together.
        assert_eq!(ids(lease_at(&store, "worker", 2, END, LAST).await), [readable.id]);
        place.sql("DELETE FROM deliveries").await;
    }
}

/// Longer than an announcement takes.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it was to happen soon")
}

async fn an_announcement_is_heard_by_other_servers(place: Place) {
    let (one, other, third) = (place.open().await, place.open().await, place.open().await);
    let mut heard_by_other = other.announcements().await.unwrap().unwrap();
    let mut heard_by_third = third.announcements().await.unwrap().unwrap();
    for _ in 0..3 {
        one.announce().await.unwrap();
        soon(heard_by_other.next()).await.unwrap();
        soon(heard_by_third.next()).await.unwrap();
    }
    // Whatever was committed before is seen by whoever hears it.
    for _ in 0..20 {
        let [owed] = owed(&one).await;
        one.announce().await.unwrap();
        soon(heard_by_other.next()).await.unwrap();
        assert_eq!(look(&other, owed.id).await.0.state, "owed");
    }
}

/// Kills all connections to this database but the one that kills.
const KILL: &str = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";

async fn an_announcement_is_met_by_trying_again(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    for _ in 0..3 {
        read!(one, |db| db.ready()).unwrap();
        place.sql(KILL).await;
        let mut heard = other.announcements().await.unwrap().unwrap();
        one.announce().await.unwrap();
        soon(heard.next()).await.unwrap();
    }
}

async fn whoever_listens_hears_that_he_may_have_missed_something(place: Place) {
    let (one, other) = (place.open().await, place.open().await);
    let mut heard = other.announcements().await.unwrap().unwrap();
    for _ in 0..3 {
        place.sql(KILL).await;
        soon(heard.next()).await.unwrap();
        one.announce().await.unwrap();
        soon(heard.next()).await.unwrap();
    }
}

/// Runs what a server's worker runs: in a runtime of its own, on one thread.
fn in_a_runtime_of_its_own<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn whoever_listens_may_leave_anywhere(place: Place) {
    let store = place.open().await;
    // More often than there are connections.
    for _ in 0..20 {
        let listen = || {
            // It goes outside of any runtime, in a thread that ends.
            let heard = in_a_runtime_of_its_own(store.announcements());
            drop(heard.unwrap().unwrap());
        };
        thread::scope(|scope| scope.spawn(listen).join()).unwrap();
    }
    transact!(store, |tx| tx.ready()).unwrap();
}

async fn announcements_are_made_and_heard_in_runtimes_that_come_and_go(place: Place) {
    let store = place.open().await;
    let heard = store.announcements().await.unwrap().unwrap();
    // What was opened in one that has ended is of no use in the next.
    let mut listens = thread::scope(|scope| {
        let listen = async || {
            let mut heard = store.announcements().await.unwrap().unwrap();
            store.announce().await.unwrap();
            soon(heard.next()).await.unwrap();
            heard
        };
        let listens = (0..6).map(|_| scope.spawn(move || in_a_runtime_of_its_own(listen())));
        let listens: Vec<_> = listens.collect();
        listens.into_iter().map(|listen| listen.join().unwrap()).collect::<Vec<_>>()
    });
    listens.push(heard);
    for _ in 0..10 {
        owed::<1>(&store).await;
    }
    let announced = tokio::spawn({
        let store = store.clone();
        async move {
            // Until they all have heard one that was made after their runtime had ended.
            loop {
                store.announce().await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    for mut heard in listens {
        for _ in 0..3 {
            soon(heard.next()).await.unwrap();
        }
    }
    announced.abort();
}

async fn a_store_is_closed_while_somebody_listens(place: Place) {
    let store = place.open().await;
    let mut heard = store.announcements().await.unwrap().unwrap();
    // Both while it waits, and while it doesn't.
    let _idle = store.announcements().await.unwrap().unwrap();
    let (ended, ()) = soon(async { tokio::join!(heard.next(), store.clone().close()) }).await;
    assert_refused!(ended, Error::Unavailable(_));
    assert_refused!(soon(heard.next()).await, Error::Unavailable(_));
}

async fn nobody_can_listen_to_a_closed_store(place: Place) {
    let store = place.open().await;
    store.clone().close().await;
    assert_refused!(soon(store.announcements()).await.map(|_| ()), Error::Unavailable(_));
    assert_refused!(soon(store.announce()).await, Error::Unavailable(_));
}

async fn a_file_has_nobody_to_tell(place: Place) {
    nobody_to_tell(place.open().await).await;
}

async fn a_memory_has_nobody_to_tell(place: Place) {
    nobody_to_tell(place.open().await).await;
}

async fn nobody_to_tell(store: Store) {
    store.announce().await.unwrap();
    assert!(store.announcements().await.unwrap().is_none());
}

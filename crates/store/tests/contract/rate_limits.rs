//! Rate limits on verifications, their buckets, and what these count.

use std::num::NonZeroU32;

use domain::rate_limits::{Description, Interval, MaxRequests, RateLimitKey, ValueDigest};
use domain::text::UniqueName;
use domain::{AttemptSid, BucketSid, RateLimit, RateLimitBucket, RateLimitSid, Timestamp};
use store::{Conflict, Error, Store, Write};

use crate::concurrency::run_concurrently;
use crate::databases::TestDatabase;
use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    rate_limit_is_read_back_unchanged_by_sid_and_by_name,
    rate_limit_is_not_found_with_a_wrong_account_service_or_key,
    rate_limit_cannot_be_inserted_without_its_service,
    unique_name_of_a_rate_limit_is_unique_in_its_service,
    rate_limit_update_changes_only_the_description,
    rate_limit_list_is_complete_and_ordered_with_every_page_size,
    rate_limits_and_buckets_are_counted_per_parent,
    rate_limit_is_deleted_with_its_buckets_only_once,
    bucket_is_read_back_unchanged,
    bucket_is_not_found_with_a_wrong_account_rate_limit_or_sid,
    bucket_cannot_be_inserted_without_its_rate_limit,
    interval_of_a_bucket_is_unique_in_its_rate_limit,
    bucket_update_changes_only_mutable_fields,
    bucket_list_is_complete_and_ordered_with_every_page_size,
    bucket_can_be_deleted_only_once_without_affecting_other_resources,
    deletion_of_a_service_deletes_its_rate_limits,
    buckets_of_a_name_are_locked_oldest_first,
    bucket_counts_separately_for_each_value_within_the_span,
    concurrent_verifications_do_not_exceed_the_maximum_of_a_bucket,
    expired_hits_are_deleted_up_to_the_limit,
}

contract! {
    on disk:
    reading_a_bucket_with_an_unreadable_column_fails,
}

const VALUE: ValueDigest = ValueDigest([0xa5; 32]);

async fn rate_limit_is_read_back_unchanged_by_sid_and_by_name(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let plain = rate_limit(service, "end_user_ip");
    let full = changed(rate_limit(service, &"x".repeat(64)), |limit| {
        limit.description = Some(Description::from_stored(TRICKY_TEXT.to_owned()));
        (limit.created_at, limit.updated_at) = (MIN_TIME, MAX_TIME);
    });
    for limit in [plain, full] {
        transact!(store, |tx| tx.insert_rate_limit(limit)).unwrap();
        for key in [RateLimitKey::Sid(limit.sid), RateLimitKey::Name(limit.unique_name.clone())] {
            let key = leak(key);
            let found = read!(store, |db| db.rate_limit(account.sid, service.sid, key)).unwrap();
            assert_same!(found, Some(limit));
        }
        let locked = transact!(store, |tx| tx.lock_rate_limit(account.sid, service.sid, limit.sid)).unwrap();
        assert_same!(locked, Some(limit));
    }
}

async fn rate_limit_is_not_found_with_a_wrong_account_service_or_key(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, enrolled_user(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    let limit = tree.rate_limit;
    let of_sid = |sid: RateLimitSid| RateLimitKey::Sid(sid);
    let of_name = |name: &str| RateLimitKey::Name(UniqueName::from_stored(name.to_owned()));
    for (account_sid, service_sid, key) in [
        (other.account.sid, service.sid, of_sid(limit.sid)),
        (account.sid, other.service.sid, of_sid(limit.sid)),
        (account.sid, service.sid, of_sid(sid())),
        (other.account.sid, service.sid, of_name("end_user_ip")),
        (account.sid, other.service.sid, of_name("end_user_ip")),
        (account.sid, service.sid, of_name("END_USER_IP")),
    ] {
        let key = leak(key);
        let found = read!(store, |db| db.rate_limit(account_sid, service_sid, key)).unwrap();
        assert_same!(found, None::<RateLimit>);
    }
    for (account_sid, service_sid, sid) in [
        (other.account.sid, service.sid, limit.sid),
        (account.sid, other.service.sid, limit.sid),
        (account.sid, service.sid, sid()),
    ] {
        let locked = transact!(store, |tx| tx.lock_rate_limit(account_sid, service_sid, sid)).unwrap();
        assert_same!(locked, None::<RateLimit>);
        assert!(!transact!(store, |tx| tx.delete_rate_limit(account_sid, service_sid, sid)).unwrap());
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
}

async fn rate_limit_cannot_be_inserted_without_its_service(store: Store) {
    let EnrolledUser { account, .. } = enrolled_user(&store).await;
    let orphan = rate_limit(service(account), "end_user_ip");
    assert_refused!(transact!(store, |tx| tx.insert_rate_limit(orphan)), Error::ParentGone);
}

async fn unique_name_of_a_rate_limit_is_unique_in_its_service(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, enrolled_user(&store).await);
    let again = rate_limit(tree.user.service, "end_user_ip");
    let refused = transact!(store, |tx| tx.insert_rate_limit(again));
    assert_refused!(refused, Error::Conflict(Conflict::RateLimitName));
    add(&store, [rate_limit(tree.user.service, "End_user_ip"), rate_limit(other.service, "end_user_ip")])
        .await;
    let twice = changed(tree.rate_limit, |limit| {
        limit.unique_name = UniqueName::from_stored("other".to_owned());
    });
    let refused = transact!(store, |tx| tx.insert_rate_limit(twice));
    assert_refused!(refused, Error::Conflict(Conflict::Other));
}

async fn rate_limit_update_changes_only_the_description(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let (before, bystander) = (rate_limit(service, "one"), rate_limit(service, "two"));
    add(&store, [before, bystander]).await;
    let full = changed(before, |limit| {
        limit.description = Some(Description::from_stored(TRICKY_TEXT.to_owned()));
        limit.updated_at = MAX_TIME;
    });
    // First set the description, then clear it.
    for after in [full, before] {
        let update = changed(after, |limit| {
            (limit.account_sid, limit.service_sid, limit.created_at) = (sid(), sid(), MAX_TIME);
            limit.unique_name = bystander.unique_name.clone();
        });
        transact!(store, |tx| tx.update_rate_limit(update)).unwrap();
        let found = read!(store, |db| db.rate_limits(account.sid, service.sid, &ALL)).unwrap();
        assert_same!(found, [after, bystander]);
    }
}

async fn rate_limit_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let (user, other) = (enrolled_user(&store).await, AccountTree::create(&store).await);
    let EnrolledUser { account, service, .. } = user;
    let limits = scattered(|sid: RateLimitSid, time| {
        let limit = rate_limit(service, &sid.to_string());
        changed(limit, |limit| (limit.sid, limit.created_at) = (sid, time))
    });
    add(&store, limits.clone()).await;
    let page = async |request| read!(store, |db| db.rate_limits(account.sid, service.sid, &request)).unwrap();
    assert_paged_list(&limits, page).await;
    for (account_sid, service_sid) in [(other.user.account.sid, service.sid), (account.sid, sid())] {
        let found = read!(store, |db| db.rate_limits(account_sid, service_sid, &ALL)).unwrap();
        assert_same!(found, Vec::<RateLimit>::new());
    }
}

async fn rate_limits_and_buckets_are_counted_per_parent(store: Store) {
    let (one, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let second = rate_limit(one.user.service, "second");
    add(&store, [second]).await;
    add(&store, [bucket(one.rate_limit, 61)]).await;
    for (service_sid, count) in [(one.user.service.sid, 2), (other.user.service.sid, 1), (sid(), 0)] {
        assert_eq!(transact!(store, |tx| tx.count_rate_limits(service_sid)).unwrap(), count);
    }
    for (limit, count) in [(one.rate_limit.sid, 2), (second.sid, 0), (other.rate_limit.sid, 1)] {
        assert_eq!(transact!(store, |tx| tx.count_buckets(limit)).unwrap(), count);
    }
}

async fn rate_limit_is_deleted_with_its_buckets_only_once(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    let delete = async || {
        transact!(store, |tx| tx.delete_rate_limit(account.sid, service.sid, tree.rate_limit.sid)).unwrap()
    };
    assert!(delete().await);
    assert!(!delete().await);
    let is_left = |name: &&str| !["rate limit", "bucket"].contains(name);
    let expected: Vec<_> = AccountTree::ALL.into_iter().filter(is_left).collect();
    assert_eq!(tree.remaining(&store).await, expected);
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}

async fn bucket_is_read_back_unchanged(store: Store) {
    let AccountTree { user: EnrolledUser { account, .. }, rate_limit, .. } =
        AccountTree::create(&store).await;
    let plain = bucket(rate_limit, 1);
    let full = changed(bucket(rate_limit, 86_400), |bucket| {
        bucket.max = MaxRequests::new(1_000_000).unwrap();
        (bucket.created_at, bucket.updated_at) = (MIN_TIME, MAX_TIME);
    });
    for bucket in [plain, full] {
        transact!(store, |tx| tx.insert_bucket(bucket)).unwrap();
        let found = read!(store, |db| db.bucket(account.sid, rate_limit.sid, bucket.sid)).unwrap();
        assert_same!(found, Some(bucket));
        let locked = transact!(store, |tx| tx.lock_bucket(account.sid, rate_limit.sid, bucket.sid)).unwrap();
        assert_same!(locked, Some(bucket));
    }
}

async fn bucket_is_not_found_with_a_wrong_account_rate_limit_or_sid(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let account = tree.user.account;
    for (account_sid, rate_limit_sid, sid) in [
        (other.user.account.sid, tree.rate_limit.sid, tree.bucket.sid),
        (account.sid, other.rate_limit.sid, tree.bucket.sid),
        (account.sid, tree.rate_limit.sid, sid()),
    ] {
        let found = read!(store, |db| db.bucket(account_sid, rate_limit_sid, sid)).unwrap();
        assert_same!(found, None::<RateLimitBucket>);
        let locked = transact!(store, |tx| tx.lock_bucket(account_sid, rate_limit_sid, sid)).unwrap();
        assert_same!(locked, None::<RateLimitBucket>);
        assert!(!transact!(store, |tx| tx.delete_bucket(account_sid, rate_limit_sid, sid)).unwrap());
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
}

async fn bucket_cannot_be_inserted_without_its_rate_limit(store: Store) {
    let EnrolledUser { service, .. } = enrolled_user(&store).await;
    let orphan = bucket(rate_limit(service, "missing"), 60);
    assert_refused!(transact!(store, |tx| tx.insert_bucket(orphan)), Error::ParentGone);
}

async fn interval_of_a_bucket_is_unique_in_its_rate_limit(store: Store) {
    let AccountTree { user, rate_limit: limit, .. } = AccountTree::create(&store).await;
    let again = bucket(limit, 60);
    let refused = transact!(store, |tx| tx.insert_bucket(again));
    assert_refused!(refused, Error::Conflict(Conflict::BucketInterval));
    let (second, elsewhere) = (bucket(limit, 61), rate_limit(user.service, "second"));
    add(&store, [elsewhere]).await;
    add(&store, [second, bucket(elsewhere, 60)]).await;
    let same = changed(second, |bucket| bucket.interval = Interval::new(60).unwrap());
    let refused = transact!(store, |tx| tx.update_bucket(same));
    assert_refused!(refused, Error::Conflict(Conflict::BucketInterval));
    // An update to the bucket's own interval is none to another's.
    transact!(store, |tx| tx.update_bucket(second)).unwrap();
}

async fn bucket_update_changes_only_mutable_fields(store: Store) {
    let AccountTree { user, rate_limit, bucket: bystander, .. } = AccountTree::create(&store).await;
    let before = bucket(rate_limit, 61);
    add(&store, [before]).await;
    let after = changed(before, |bucket| {
        bucket.max = MaxRequests::new(7).unwrap();
        bucket.interval = Interval::new(3600).unwrap();
        bucket.updated_at = MAX_TIME;
    });
    let update = changed(after, |bucket| {
        (bucket.account_sid, bucket.service_sid, bucket.rate_limit_sid) = (sid(), sid(), sid());
        bucket.created_at = MAX_TIME;
    });
    transact!(store, |tx| tx.update_bucket(update)).unwrap();
    let found = read!(store, |db| db.buckets(user.account.sid, rate_limit.sid, &ALL)).unwrap();
    assert_same!(found, [bystander, after]);
}

async fn bucket_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let (user, other) = (enrolled_user(&store).await, AccountTree::create(&store).await);
    let limit = rate_limit(user.service, "end_user_ip");
    add(&store, [limit]).await;
    let seconds = std::cell::Cell::new(0);
    let buckets = scattered(|sid: BucketSid, time| {
        seconds.set(seconds.get() + 1);
        changed(bucket(limit, seconds.get()), |bucket| (bucket.sid, bucket.created_at) = (sid, time))
    });
    add(&store, buckets.clone()).await;
    let account_sid = user.account.sid;
    let page = async |request| read!(store, |db| db.buckets(account_sid, limit.sid, &request)).unwrap();
    assert_paged_list(&buckets, page).await;
    for (account_sid, rate_limit_sid) in [(other.user.account.sid, limit.sid), (account_sid, sid())] {
        let found = read!(store, |db| db.buckets(account_sid, rate_limit_sid, &ALL)).unwrap();
        assert_same!(found, Vec::<RateLimitBucket>::new());
    }
}

async fn bucket_can_be_deleted_only_once_without_affecting_other_resources(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let account = tree.user.account;
    let delete = async || {
        transact!(store, |tx| tx.delete_bucket(account.sid, tree.rate_limit.sid, tree.bucket.sid)).unwrap()
    };
    assert!(delete().await);
    assert!(!delete().await);
    let expected: Vec<_> = AccountTree::ALL.into_iter().filter(|name| *name != "bucket").collect();
    assert_eq!(tree.remaining(&store).await, expected);
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}

async fn deletion_of_a_service_deletes_its_rate_limits(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    assert!(transact!(store, |tx| tx.delete_service(account.sid, service.sid, NOW)).unwrap());
    let name = &tree.rate_limit.unique_name;
    let locked = transact!(store, |tx| tx.lock_buckets_of(service.sid, name)).unwrap();
    assert_same!(locked, Vec::<RateLimitBucket>::new());
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}

async fn buckets_of_a_name_are_locked_oldest_first(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let limit = tree.rate_limit;
    let [second, first] = [(61, NOW), (62, MIN_TIME)]
        .map(|(seconds, time)| changed(bucket(limit, seconds), |it| it.created_at = time));
    let elsewhere = rate_limit(tree.user.service, "elsewhere");
    add(&store, [elsewhere]).await;
    add(&store, [second, first, bucket(elsewhere, 60)]).await;
    let lock = async |service_sid, name: &str| {
        let name = leak(UniqueName::from_stored(name.to_owned()));
        transact!(store, |tx| tx.lock_buckets_of(service_sid, name)).unwrap()
    };
    assert_same!(lock(tree.user.service.sid, "end_user_ip").await, [first, tree.bucket, second]);
    assert_same!(lock(other.user.service.sid, "end_user_ip").await, [other.bucket]);
    for (service_sid, name) in [(tree.user.service.sid, "unknown"), (sid(), "end_user_ip")] {
        assert_same!(lock(service_sid, name).await, Vec::<RateLimitBucket>::new());
    }
}

async fn bucket_counts_separately_for_each_value_within_the_span(store: Store) {
    let tree = AccountTree::create(&store).await;
    let (bucket, second) = (tree.bucket, bucket(tree.rate_limit, 61));
    add(&store, [second]).await;
    let hit = async |bucket: &'static RateLimitBucket, value, seconds| {
        let now = NOW.plus_seconds(seconds);
        transact!(store, |tx| tx.insert_bucket_hit(bucket, value, sid::<AttemptSid>(), now)).unwrap();
    };
    for seconds in [0, 0, 5, 10] {
        hit(bucket, VALUE, seconds).await;
    }
    hit(bucket, ValueDigest([1; 32]), 7).await;
    hit(second, VALUE, 8).await;
    let nth = async |bucket: &'static RateLimitBucket, value, span: [i64; 2], most| {
        let [start, end] = span.map(|seconds| NOW.plus_seconds(seconds));
        let most = NonZeroU32::new(most).unwrap();
        let found = read!(store, |db| db.nth_latest_bucket_hit_at(bucket, value, start..end, most)).unwrap();
        found.map(|time: Timestamp| time.seconds() - NOW.seconds())
    };
    for (span, most, expected) in [
        ([-1, 20], 1, Some(10)),
        ([-1, 20], 2, Some(5)),
        ([-1, 20], 4, Some(0)),
        ([-1, 20], 5, None),
        ([0, 20], 2, Some(5)),
        ([0, 20], 3, None),
        ([-1, 10], 1, Some(10)),
        ([-1, 9], 1, Some(5)),
    ] {
        assert_eq!(nth(bucket, VALUE, span, most).await, expected, "{span:?} {most}");
    }
    assert_eq!(nth(bucket, ValueDigest([1; 32]), [-1, 20], 1).await, Some(7));
    assert_eq!(nth(bucket, ValueDigest([2; 32]), [-1, 20], 1).await, None);
    assert_eq!(nth(second, VALUE, [-1, 20], 1).await, Some(8));
}

async fn concurrent_verifications_do_not_exceed_the_maximum_of_a_bucket(store: Store) {
    let AccountTree { user, rate_limit, bucket, .. } = AccountTree::create(&store).await;
    let counted = run_concurrently(20, |_| {
        let store = store.clone();
        let count = async move |tx: &mut Write| {
            let locked = tx.lock_buckets_of(user.service.sid, &rate_limit.unique_name).await?;
            let (window, locked) = (locked[0].window(), &locked[0]);
            let full = tx.nth_latest_bucket_hit_at(locked, VALUE, window.span(NOW), window.most()).await?;
            if full.is_none() {
                tx.insert_bucket_hit(bucket, VALUE, sid(), NOW).await?;
            }
            Ok::<_, Error>(full.is_none())
        };
        async move { store.write(count).await.unwrap() }
    });
    assert_eq!(counted.await.into_iter().filter(|counted| *counted).count(), 2);
}

async fn expired_hits_are_deleted_up_to_the_limit(store: Store) {
    let AccountTree { bucket, .. } = AccountTree::create(&store).await;
    for seconds in [0, 0, 1, 2] {
        let now = NOW.plus_seconds(seconds);
        transact!(store, |tx| tx.insert_bucket_hit(bucket, VALUE, sid(), now)).unwrap();
    }
    let delete = async |seconds: i64, limit| {
        let before = NOW.plus_seconds(60 + seconds);
        transact!(store, |tx| tx.delete_expired_bucket_hits(before, limit)).unwrap()
    };
    // A hit expires a minute after it was counted.
    assert_eq!(delete(0, 10).await, 0);
    assert_eq!(delete(1, 1).await, 1);
    assert_eq!(delete(2, 10).await, 2);
    assert_eq!(delete(2, 10).await, 0);
    let span = MIN_TIME..MAX_TIME;
    let left = read!(store, |db| db.nth_latest_bucket_hit_at(bucket, VALUE, span.clone(), NonZeroU32::MIN));
    assert_eq!(left.unwrap(), Some(NOW.plus_seconds(2)));
}

async fn reading_a_bucket_with_an_unreadable_column_fails(database: TestDatabase) {
    let store = database.open().await;
    let AccountTree { user, rate_limit, .. } = AccountTree::create(&store).await;
    for (column, good) in [("max_requests", 2), ("interval_seconds", 60)] {
        database.sql(&format!("UPDATE buckets SET {column} = 0")).await;
        let found = read!(store, |db| db.buckets(user.account.sid, rate_limit.sid, &ALL));
        assert_refused!(found, Error::Corrupt(which) if which == column);
        database.sql(&format!("UPDATE buckets SET {column} = {good}")).await;
    }
}

//! Messaging configurations: the outlets for text messages to countries.

use domain::messaging_configurations::MessagingCountry;
use domain::outlets::OutletSid;
use domain::{Country, MessagingConfiguration, MessagingConfigurationSid, Parameter as _};
use store::{Conflict, Error, Store};

use crate::databases::TestDatabase;
use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    messaging_configuration_is_read_back_unchanged,
    messaging_configuration_is_not_found_with_a_wrong_account_service_or_country,
    messaging_configuration_cannot_be_inserted_without_its_service,
    country_of_a_messaging_configuration_is_unique_in_its_service,
    messaging_configuration_update_changes_only_the_outlet,
    messaging_configuration_list_is_complete_and_ordered_with_every_page_size,
    outlet_of_the_country_precedes_the_one_for_all_countries,
    messaging_configurations_without_outlet_are_found,
    messaging_configuration_can_be_deleted_only_once_without_affecting_other_resources,
    deletion_of_a_service_deletes_its_messaging_configurations,
}

contract! {
    on disk:
    reading_a_messaging_configuration_with_an_unreadable_column_fails,
}

fn country(code: &str) -> MessagingCountry {
    MessagingCountry::from_parameter(code).unwrap()
}

async fn messaging_configuration_is_read_back_unchanged(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let full = changed(messaging_configuration(service, "all"), |configuration| {
        (configuration.created_at, configuration.updated_at) = (MIN_TIME, MAX_TIME);
    });
    for configuration in [messaging_configuration(service, "DE"), full] {
        transact!(store, |tx| tx.insert_messaging_configuration(configuration)).unwrap();
        let key = (account.sid, service.sid, configuration.country);
        let found = read!(store, |db| db.messaging_configuration(key.0, key.1, key.2)).unwrap();
        assert_same!(found, Some(configuration));
        let locked = transact!(store, |tx| tx.lock_messaging_configuration(key.0, key.1, key.2)).unwrap();
        assert_same!(locked, Some(configuration));
    }
}

async fn messaging_configuration_is_not_found_with_a_wrong_account_service_or_country(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, enrolled_user(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    for (account_sid, service_sid, country) in [
        (other.account.sid, service.sid, country("AT")),
        (account.sid, other.service.sid, country("AT")),
        (account.sid, service.sid, country("DE")),
        (account.sid, service.sid, MessagingCountry::All),
    ] {
        let key = (account_sid, service_sid, country);
        let found = read!(store, |db| db.messaging_configuration(key.0, key.1, key.2)).unwrap();
        assert_same!(found, None::<MessagingConfiguration>);
        let locked = transact!(store, |tx| tx.lock_messaging_configuration(key.0, key.1, key.2)).unwrap();
        assert_same!(locked, None::<MessagingConfiguration>);
        assert!(!transact!(store, |tx| tx.delete_messaging_configuration(key.0, key.1, key.2)).unwrap());
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
}

async fn messaging_configuration_cannot_be_inserted_without_its_service(store: Store) {
    let EnrolledUser { account, .. } = enrolled_user(&store).await;
    let orphan = messaging_configuration(service(account), "AT");
    assert_refused!(transact!(store, |tx| tx.insert_messaging_configuration(orphan)), Error::ParentGone);
}

async fn country_of_a_messaging_configuration_is_unique_in_its_service(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, enrolled_user(&store).await);
    let again = messaging_configuration(tree.user.service, "AT");
    let refused = transact!(store, |tx| tx.insert_messaging_configuration(again));
    assert_refused!(refused, Error::Conflict(Conflict::MessagingCountry));
    add(
        &store,
        [messaging_configuration(other.service, "AT"), messaging_configuration(tree.user.service, "DE")],
    )
    .await;
}

async fn messaging_configuration_update_changes_only_the_outlet(store: Store) {
    let EnrolledUser { account, service, .. } = enrolled_user(&store).await;
    let (before, bystander) =
        (messaging_configuration(service, "AT"), messaging_configuration(service, "all"));
    add(&store, [before, bystander]).await;
    let after = changed(before, |configuration| {
        (configuration.messaging_service_sid, configuration.updated_at) = (sid(), MAX_TIME);
    });
    let update = changed(after, |configuration| {
        (configuration.account_sid, configuration.service_sid) = (sid(), sid());
        (configuration.country, configuration.created_at) = (country("DE"), MAX_TIME);
    });
    transact!(store, |tx| tx.update_messaging_configuration(update)).unwrap();
    let found = read!(store, |db| db.messaging_configurations(account.sid, service.sid, &ALL)).unwrap();
    assert_same!(found, [after, bystander]);
}

async fn messaging_configuration_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let (user, other) = (enrolled_user(&store).await, AccountTree::create(&store).await);
    let EnrolledUser { account, service, .. } = user;
    let letters = std::cell::Cell::new(b'A');
    let configurations = scattered(|sid: MessagingConfigurationSid, time| {
        let code = format!("X{}", char::from(letters.replace(letters.get() + 1)));
        changed(messaging_configuration(service, &code), |it| (it.sid, it.created_at) = (sid, time))
    });
    add(&store, configurations.clone()).await;
    let page = async |request| {
        read!(store, |db| db.messaging_configurations(account.sid, service.sid, &request)).unwrap()
    };
    assert_paged_list(&configurations, page).await;
    for (account_sid, service_sid) in [(other.user.account.sid, service.sid), (account.sid, sid())] {
        let found = read!(store, |db| db.messaging_configurations(account_sid, service_sid, &ALL)).unwrap();
        assert_same!(found, Vec::<MessagingConfiguration>::new());
    }
}

async fn outlet_of_the_country_precedes_the_one_for_all_countries(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, enrolled_user(&store).await);
    let service = tree.user.service;
    let outlet = async |service_sid, code: &str| {
        let country = Country::from_parameter(code).ok();
        read!(store, |db| db.messaging_services_for(service_sid, country)).unwrap()
    };
    let austria = tree.messaging_configuration.messaging_service_sid;
    assert_eq!(outlet(service.sid, "AT").await, [austria]);
    assert_eq!(outlet(service.sid, "DE").await, []);
    assert_eq!(outlet(service.sid, "").await, []);
    let all = messaging_configuration(service, "all");
    add(&store, [all]).await;
    assert_eq!(outlet(service.sid, "AT").await, [austria, all.messaging_service_sid]);
    for code in ["DE", "ZZ", ""] {
        assert_eq!(outlet(service.sid, code).await, [all.messaging_service_sid], "{code}");
    }
    assert_eq!(outlet(other.service.sid, "AT").await, []);
}

async fn messaging_configurations_without_outlet_are_found(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, enrolled_user(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    let found = async || {
        let found = read!(store, |db| db.messaging_configurations_without_outlet()).unwrap();
        found.iter().map(|configuration| configuration.country).collect::<Vec<_>>()
    };
    assert_eq!(found().await, [country("AT")]);
    let (mine, foreign) = (outlet(account), outlet(other.account));
    for outlet in [mine, foreign] {
        transact!(store, |tx| tx.insert_outlet(outlet)).unwrap();
    }
    for (code, outlet, seconds) in [("DE", mine, 1), ("CH", foreign, 2)] {
        let configuration = changed(messaging_configuration(service, code), |configuration| {
            let OutletSid::Messaging(sid) = outlet.sid else { panic!("an outlet for mail") };
            configuration.messaging_service_sid = sid;
            configuration.created_at = NOW.plus_seconds(seconds);
        });
        add(&store, [configuration]).await;
    }
    assert_eq!(found().await, [country("AT"), country("CH")]);
}

async fn messaging_configuration_can_be_deleted_only_once_without_affecting_other_resources(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    let at = country("AT");
    let delete = async || {
        transact!(store, |tx| tx.delete_messaging_configuration(account.sid, service.sid, at)).unwrap()
    };
    assert!(delete().await);
    assert!(!delete().await);
    let is_left = |name: &&str| *name != "messaging configuration";
    let expected: Vec<_> = AccountTree::ALL.into_iter().filter(is_left).collect();
    assert_eq!(tree.remaining(&store).await, expected);
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}

async fn deletion_of_a_service_deletes_its_messaging_configurations(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let EnrolledUser { account, service, .. } = tree.user;
    assert!(transact!(store, |tx| tx.delete_service(account.sid, service.sid, NOW)).unwrap());
    let country = Country::from_parameter("AT").ok();
    assert_eq!(read!(store, |db| db.messaging_services_for(service.sid, country)).unwrap(), []);
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}

async fn reading_a_messaging_configuration_with_an_unreadable_column_fails(database: TestDatabase) {
    let store = database.open().await;
    let EnrolledUser { account, service, .. } = AccountTree::create(&store).await.user;
    database.sql("UPDATE messaging_configurations SET country = 'Austria'").await;
    let found = read!(store, |db| db.messaging_configurations(account.sid, service.sid, &ALL));
    assert_refused!(found, Error::Corrupt(which) if which == "country");
}

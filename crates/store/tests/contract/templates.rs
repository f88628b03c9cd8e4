//! Templates and their translations.

use domain::TemplateSid;
use domain::templates::{Template, TemplateBody, TemplateChannels, Translation};
use domain::{Channel, Locale};
use store::{Conflict, Error, Store};

use crate::fixtures::*;
use crate::paging::{ALL, assert_paged_list, scattered};

contract! {
    template_is_read_back_unchanged,
    template_is_not_found_with_a_wrong_account_or_sid,
    template_cannot_be_inserted_without_its_account,
    template_cannot_be_inserted_twice,
    template_update_changes_only_mutable_fields,
    template_list_is_complete_and_ordered_with_every_page_size,
    template_list_excludes_templates_of_other_accounts_and_names,
    templates_of_all_accounts_are_listed_oldest_first,
    translation_is_added_replaced_and_deleted,
    translation_cannot_be_added_without_its_template,
    template_can_be_deleted_only_once_without_affecting_other_resources,
    template_is_not_deleted_with_a_wrong_account_or_sid,
    templates_of_an_account_are_counted_while_it_is_locked,
}

fn translation(tag: &str, text: &str) -> Translation {
    Translation {
        locale: Locale::from_tag(tag).unwrap(),
        is_default: false,
        text: TemplateBody::from_stored(text.to_owned()),
        created_at: NOW,
        updated_at: NOW,
    }
}

async fn template_is_read_back_unchanged(store: Store) {
    let account = account();
    add(&store, [account]).await;
    let plain = template(account);
    let full = changed(plain, |template| {
        template.sid = sid();
        template.friendly_name = name(TRICKY_TEXT);
        template.channels =
            TemplateChannels::from_stored(vec![Channel::Call, Channel::Sms, Channel::Whatsapp]);
        // In the order of their locales, which differs from that of some collations.
        template.translations = vec![
            translation("pt", "{{code}}\n\n"),
            translation("pt-BR", TRICKY_TEXT),
            translation("zh-HK", "x"),
        ];
        template.translations[1].is_default = true;
        template.translations[2].created_at = MIN_TIME;
        template.translations[2].updated_at = MAX_TIME;
        (template.created_at, template.updated_at) = (MIN_TIME, MAX_TIME);
    });
    let bare = changed(plain, |template| {
        (template.sid, template.translations) = (sid(), Vec::new());
        template.channels = TemplateChannels::from_stored(vec![Channel::Email]);
    });
    for template in [plain, full, bare] {
        transact!(store, |tx| tx.insert_template(template)).unwrap();
        let found = read!(store, |db| db.template(account.sid, template.sid)).unwrap();
        assert_same!(found, Some(template));
        let locked = transact!(store, |tx| tx.lock_template(account.sid, template.sid)).unwrap();
        assert_same!(locked, Some(template));
    }
}

async fn template_is_not_found_with_a_wrong_account_or_sid(store: Store) {
    let (owner, other) = (account(), account());
    let template = template(owner);
    add(&store, [owner, other]).await;
    add(&store, [template]).await;
    for (account_sid, sid) in [(other.sid, template.sid), (owner.sid, sid())] {
        let found = read!(store, |db| db.template(account_sid, sid)).unwrap();
        assert_same!(found, None::<Template>);
        let locked = transact!(store, |tx| tx.lock_template(account_sid, sid)).unwrap();
        assert_same!(locked, None::<Template>);
    }
}

async fn template_cannot_be_inserted_without_its_account(store: Store) {
    let orphan = template(account());
    assert_refused!(transact!(store, |tx| tx.insert_template(orphan)), Error::ParentGone);
}

async fn template_cannot_be_inserted_twice(store: Store) {
    let AccountTree { template, .. } = AccountTree::create(&store).await;
    let again = transact!(store, |tx| tx.insert_template(template));
    assert_refused!(again, Error::Conflict(Conflict::Other));
}

async fn template_update_changes_only_mutable_fields(store: Store) {
    let (account, other) = (account(), account());
    let (before, bystander) = (template(account), template(account));
    add(&store, [account, other]).await;
    add(&store, [before, bystander]).await;
    let after = changed(before, |template| {
        (template.friendly_name, template.updated_at) = (name(TRICKY_TEXT), MAX_TIME);
    });
    let update = changed(after, |template| {
        template.account_sid = other.sid;
        template.channels = TemplateChannels::from_stored(vec![Channel::Email]);
        template.translations = Vec::new();
        template.created_at = MAX_TIME;
    });
    transact!(store, |tx| tx.update_template(update)).unwrap();
    assert_same!(read!(store, |db| db.templates(account.sid, None, &ALL)).unwrap(), [after, bystander]);
}

async fn template_list_is_complete_and_ordered_with_every_page_size(store: Store) {
    let account = account();
    let templates = scattered(|sid: TemplateSid, time| {
        changed(template(account), |template| (template.sid, template.created_at) = (sid, time))
    });
    add(&store, [account]).await;
    add(&store, templates.clone()).await;
    for name in [None, Some("Login")] {
        let page = async |request| read!(store, |db| db.templates(account.sid, name, &request)).unwrap();
        assert_paged_list(&templates, page).await;
    }
}

async fn template_list_excludes_templates_of_other_accounts_and_names(store: Store) {
    let (one, _other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let account_sid = one.user.account.sid;
    let renamed = changed(one.template, |template| {
        (template.sid, template.friendly_name) = (sid(), name(TRICKY_TEXT));
    });
    add(&store, [renamed]).await;
    for (given, expected) in [
        (None, vec![one.template, renamed]),
        (Some("Login"), vec![one.template]),
        (Some(TRICKY_TEXT), vec![renamed]),
        (Some("login"), vec![]),
        (Some("Log%"), vec![]),
    ] {
        let found = read!(store, |db| db.templates(account_sid, given, &ALL)).unwrap();
        assert_same!(found, expected);
    }
    assert_same!(read!(store, |db| db.templates(sid(), None, &ALL)).unwrap(), Vec::<Template>::new());
}

async fn templates_of_all_accounts_are_listed_oldest_first(store: Store) {
    assert_same!(read!(store, |db| db.all_templates()).unwrap(), Vec::<Template>::new());
    let (one, other) = (account(), account());
    let created_at =
        |account, second| changed(template(account), |it| it.created_at = NOW.plus_seconds(second));
    let [third, first, second] = [created_at(one, 3), created_at(other, 1), created_at(one, 2)];
    add(&store, [one, other]).await;
    add(&store, [third, first, second]).await;
    assert_same!(read!(store, |db| db.all_templates()).unwrap(), [first, second, third]);
}

async fn translation_is_added_replaced_and_deleted(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let (account_sid, template) = (tree.user.account.sid, tree.template);
    let found = async || read!(store, |db| db.template(account_sid, template.sid)).unwrap();
    let added = leak(Translation { created_at: MIN_TIME, ..translation("de", "{{code}} de") });
    transact!(store, |tx| tx.set_translation(template.sid, added)).unwrap();
    let with_added = changed(template, |template| template.translations.insert(0, added.clone()));
    assert_same!(found().await, Some(with_added));

    // Only the text and the time of the change are replaced.
    for (index, tag) in ["de", "en"].into_iter().enumerate() {
        let replacement = leak(Translation {
            is_default: index == 0,
            created_at: MAX_TIME,
            updated_at: MAX_TIME,
            ..translation(tag, TRICKY_TEXT)
        });
        transact!(store, |tx| tx.set_translation(template.sid, replacement)).unwrap();
        let translation = found().await.unwrap().translations.remove(index);
        let before = &with_added.translations[index];
        assert_eq!((translation.is_default, translation.created_at), (before.is_default, before.created_at));
        assert_eq!((translation.text.as_str(), translation.updated_at), (TRICKY_TEXT, MAX_TIME));
    }

    let german = added.locale;
    let delete = async || transact!(store, |tx| tx.delete_translation(template.sid, german)).unwrap();
    assert!(delete().await);
    assert!(!delete().await);
    let left = found().await.unwrap().translations;
    assert_eq!(left.iter().map(|it| it.locale.as_str()).collect::<Vec<_>>(), ["en"]);
    let unchanged = read!(store, |db| db.template(other.user.account.sid, other.template.sid)).unwrap();
    assert_same!(unchanged, Some(other.template));
}

async fn translation_cannot_be_added_without_its_template(store: Store) {
    let translation = leak(translation("de", "{{code}}"));
    let added = transact!(store, |tx| tx.set_translation(sid(), translation));
    assert_refused!(added, Error::ParentGone);
}

async fn template_can_be_deleted_only_once_without_affecting_other_resources(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, AccountTree::create(&store).await);
    let account = tree.user.account;
    let delete = async || transact!(store, |tx| tx.delete_template(account.sid, tree.template.sid)).unwrap();
    assert!(delete().await);
    assert!(!delete().await);
    let expected: Vec<_> = AccountTree::ALL.into_iter().filter(|name| *name != "template").collect();
    assert_eq!(tree.remaining(&store).await, expected);
    assert_eq!(other.remaining(&store).await, AccountTree::ALL);
}

async fn template_is_not_deleted_with_a_wrong_account_or_sid(store: Store) {
    let (tree, other) = (AccountTree::create(&store).await, account());
    add(&store, [other]).await;
    for (account_sid, sid) in [(other.sid, tree.template.sid), (tree.user.account.sid, sid())] {
        assert!(!transact!(store, |tx| tx.delete_template(account_sid, sid)).unwrap());
    }
    assert_eq!(tree.remaining(&store).await, AccountTree::ALL);
}

async fn templates_of_an_account_are_counted_while_it_is_locked(store: Store) {
    let (account, other) = (account(), account());
    add(&store, [account, other]).await;
    add(&store, [template(account), template(account), template(other)]).await;
    let counted = async move |tx: &mut store::Write| {
        assert!(tx.lock_account(account.sid).await?);
        assert!(!tx.lock_account(sid()).await?);
        Ok::<_, Error>((tx.count_templates(account.sid).await?, tx.count_templates(sid()).await?))
    };
    assert_eq!(store.write(counted).await.unwrap(), (2, 0));
}

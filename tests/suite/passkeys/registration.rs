//! Registration: what a new passkey shows, and the refusals of `VerifyFactor` in the order of its checks.

use device::Passkey;
use serde_json::{Value, json};

use super::{
    ATTESTED_CREDENTIAL, BACKED_UP, IDENTITY, ORIGIN, RelyingParty, USER_PRESENT, USER_VERIFIED,
    challenge_bytes, decode, edit_bytes, edit_flags, encode, set_client_data, text,
};
use crate::audit::sql;
use crate::races::{Request, send_at_once, split_outcomes};
use crate::world::{World, assert_error, on_every_database};

on_every_database! {
    async fn new_passkey_shows_its_configuration_and_the_options_for_the_browser(world: World) {
        let party = RelyingParty::create(&world).await;
        let made = party.new_passkey(IDENTITY).await;
        let sid = text(&made["sid"]);
        assert!(sid.starts_with("YF04") && sid.len() == 34, "{made}");
        let entity = world.backend().get(&party.entity(IDENTITY), &[]).await.json();
        let config = json!({
            "relying_party": {
                "id": "example.com",
                "name": "Owl Bank",
                "origins": ["https://example.com", "https://login.example.com"],
            },
            "authenticator_attachment": "platform",
            "discoverable_credentials": "required",
            "user_verification": "required",
        });
        let challenge = &made["options"]["publicKey"]["challenge"];
        let bytes = decode(challenge);
        assert_eq!((bytes.len(), &bytes[..34]), (50, sid.as_bytes()));
        let options = json!({ "publicKey": {
            "rp": { "id": "example.com", "name": "Owl Bank" },
            "user": {
                "id": encode(text(&entity["sid"])),
                "name": "Anna's laptop",
                "displayName": "Anna's laptop",
            },
            "challenge": challenge,
            "pubKeyCredParams": [
                { "type": "public-key", "alg": -7 },
                { "type": "public-key", "alg": -257 },
                { "type": "public-key", "alg": -8 },
            ],
            "timeout": 600_000,
            "excludeCredentials": [],
            "authenticatorSelection": {
                "authenticatorAttachment": "platform",
                "requireResidentKey": true,
                "residentKey": "required",
                "userVerification": "required",
            },
            "attestation": "none",
        } });
        let expected = json!({
            "sid": sid,
            "account_sid": world.server.account_sid(),
            "service_sid": party.service,
            "entity_sid": entity["sid"],
            "identity": IDENTITY,
            "binding": null,
            "options": options,
            "date_created": made["date_created"],
            "date_updated": made["date_created"],
            "friendly_name": "Anna's laptop",
            "status": "unverified",
            "factor_type": "passkeys",
            "config": config,
            "metadata": null,
            "url": format!("{}{}/Factors/{sid}", world.server.url(), party.entity(IDENTITY)),
        });
        assert_eq!(made, expected);

        let (_, credential) = Passkey::register(&made["options"], ORIGIN).unwrap();
        let verified = party.verify(&credential).await;
        let mut shown = expected;
        let members = shown.as_object_mut().unwrap();
        members.remove("binding");
        members.remove("options");
        shown["status"] = json!("verified");
        shown["date_updated"] = verified.json()["date_updated"].clone();
        shown["metadata"] = json!({ "aaguid": "00000000-0000-0000-0000-000000000000" });
        assert_eq!((verified.status, verified.json()), (200, shown.clone()), "{verified:?}");
        let path = format!("{}/Factors", party.entity(IDENTITY));
        assert_eq!(world.backend().get(&format!("{path}/{sid}"), &[]).await.json(), shown);
        assert_eq!(world.backend().get(&path, &[]).await.json()["factors"], json!([shown]));
    }
}

on_every_database! {
    async fn authenticators_of_verified_passkeys_are_excluded(world: World) {
        let party = RelyingParty::create(&world).await;
        let (passkey, _) = party.passkey(IDENTITY).await;
        party.new_passkey(IDENTITY).await;
        party.passkey("user-0002").await;
        let excluded = |made: &Value| made["options"]["publicKey"]["excludeCredentials"].clone();
        let own = json!([{ "type": "public-key", "id": passkey.credential_id(), "transports": ["internal"] }]);
        assert_eq!(excluded(&party.new_passkey(IDENTITY).await), own);
        let other = json!({
            "friendly_name": "Other",
            "identity": IDENTITY,
            "config": { "relying_party": { "id": "example.org", "name": "Other" } },
        });
        assert_eq!(excluded(&party.post("Factors", &other).await.json()), json!([]));
    }
}

/// A change to the body of `VerifyFactor`, and the status and code with which the result is refused.
type Row = (&'static str, fn(&mut Value), u16, i64);

/// The changes that are refused without a look at the passkey, and those that the passkey refuses, in the order of the
/// checks.
const REFUSALS: &[Row] = &[
    ("no response", |it| it["response"] = Value::Null, 400, 60378),
    ("response is not an object", |it| it["response"] = json!([]), 400, 60378),
    ("no client data", |it| it["response"]["clientDataJSON"] = Value::Null, 400, 60378),
    ("no attestation object", |it| it["response"]["attestationObject"] = Value::Null, 400, 60378),
    ("transports are no array", |it| it["response"]["transports"] = json!("usb"), 400, 60378),
    ("another type", |it| it["type"] = json!("password"), 400, 60378),
    ("id is not base64url", |it| it["id"] = json!("+"), 400, 60375),
    ("another id", |it| (it["id"], it["rawId"]) = (json!("AAAA"), json!("AAAA")), 400, 60375),
    ("another rawId", |it| it["rawId"] = json!("AAAA"), 400, 60376),
    ("another attachment", |it| it["authenticatorAttachment"] = json!("any"), 400, 60377),
    ("client data is not base64url", |it| it["response"]["clientDataJSON"] = json!("{}"), 400, 60380),
    ("client data is not JSON", |it| it["response"]["clientDataJSON"] = encode("{"), 400, 60380),
    ("client data is too long", |it| set_client_data(it, "more", json!("x".repeat(4096))), 400, 60380),
    ("another ceremony", |it| set_client_data(it, "type", json!("webauthn.get")), 400, 60380),
    ("no challenge", |it| set_client_data(it, "challenge", Value::Null), 400, 60380),
    (
        "challenge of no passkey",
        |it| set_client_data(it, "challenge", encode(format!("YF04{}", "0".repeat(46)))),
        404,
        60390,
    ),
    ("challenge without a SID", |it| set_client_data(it, "challenge", encode("x")), 404, 60390),
    (
        "another challenge of the passkey",
        |it| {
            let mut bytes = challenge_bytes(it);
            bytes[49] ^= 1;
            set_client_data(it, "challenge", encode(bytes));
        },
        400,
        60380,
    ),
    (
        "the SID alone",
        |it| {
            let bytes = challenge_bytes(it);
            set_client_data(it, "challenge", encode(&bytes[..34]));
        },
        400,
        60380,
    ),
    ("another origin", |it| set_client_data(it, "origin", json!("https://example.org")), 400, 60380),
    ("a frame", |it| set_client_data(it, "crossOrigin", json!(true)), 400, 60380),
    ("another top origin", |it| set_client_data(it, "topOrigin", json!("https://example.org")), 400, 60380),
    ("attestation object is not CBOR", |it| it["response"]["attestationObject"] = json!("_w"), 400, 60386),
    (
        "truncated attestation object",
        |it| edit_bytes(it, "attestationObject", |it| it.truncate(40)),
        400,
        60386,
    ),
    (
        "bytes after the attestation object",
        |it| edit_bytes(it, "attestationObject", |it| it.push(0)),
        400,
        60386,
    ),
    ("short authenticator data", |it| edit_data(it, |data| data.truncate(36)), 400, 60379),
    ("another relying party", |it| edit_data(it, |data| data[0] ^= 1), 400, 60382),
    ("no user presence", |it| edit_data(it, |data| edit_flags(data, 0, USER_PRESENT)), 400, 60379),
    ("no user verification", |it| edit_data(it, |data| edit_flags(data, 0, USER_VERIFIED)), 400, 60379),
    ("backed up, but not eligible", |it| edit_data(it, |data| edit_flags(data, BACKED_UP, 0)), 400, 60379),
    ("no credential", |it| edit_data(it, |data| edit_flags(data, 0, ATTESTED_CREDENTIAL)), 400, 60387),
    ("empty credential ID", |it| edit_data(it, |data| data[54] = 0), 400, 60387),
    ("another algorithm", |it| edit_data(it, |data| set_after(data, b"\x03\x26", 1, 0x27)), 400, 60385),
    ("a point off the curve", |it| edit_data(it, |data| *data.last_mut().unwrap() ^= 1), 400, 60385),
    ("bytes after the key", |it| edit_data(it, |data| data.push(0)), 400, 60385),
];

/// Changes the authenticator data in the attestation object, which the software authenticator writes last.
fn edit_data(credential: &mut Value, edit: impl FnOnce(&mut Vec<u8>)) {
    edit_bytes(credential, "attestationObject", |object| {
        let start = object.windows(8).position(|bytes| bytes == b"authData").unwrap() + 11;
        let mut data = object.split_off(start);
        edit(&mut data);
        object.truncate(start - 2);
        object.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        object.extend(data);
    });
}

/// Sets the byte at `offset` after the start of the first `pattern`.
fn set_after(data: &mut [u8], pattern: &[u8], offset: usize, byte: u8) {
    let start = data.windows(pattern.len()).position(|bytes| bytes == pattern).unwrap();
    data[start + offset] = byte;
}

on_every_database! {
    async fn registration_is_refused_at_the_first_failed_check(world: World) {
        let party = RelyingParty::create(&world).await;
        let made = party.new_passkey(IDENTITY).await;
        let (_, credential) = Passkey::register(&made["options"], ORIGIN).unwrap();
        let before = world.everything().await;
        for (what, change, status, code) in REFUSALS {
            let mut changed = credential.clone();
            change(&mut changed);
            let reply = party.verify(&changed).await;
            assert_eq!(reply.status, *status, "{what}: {reply:?}");
            assert_error(&reply, *status, *code);
        }
        assert_eq!(world.everything().await, before);
        let verified = party.verify(&credential).await;
        assert_eq!((verified.status, &verified.json()["status"]), (200, &json!("verified")), "{verified:?}");
        assert_error(&party.verify(&credential).await, 400, 60383);
    }
}

on_every_database! {
    async fn passkey_of_another_service_or_type_is_not_found(world: World) {
        let (party, other) = (RelyingParty::create(&world).await, RelyingParty::create(&world).await);
        let made = other.new_passkey(IDENTITY).await;
        let (_, credential) = Passkey::register(&made["options"], ORIGIN).unwrap();
        assert_error(&party.verify(&credential).await, 404, 60390);
        assert_eq!(other.verify(&credential).await.status, 200);
        let device = world.device(&party.service, IDENTITY).await;
        let mut credential = credential;
        set_client_data(&mut credential, "challenge", encode(&device.enrollment.factor_sid));
        assert_error(&party.verify(&credential).await, 404, 60390);
    }
}

on_every_database! {
    async fn credential_of_a_relying_party_can_be_registered_only_once(world: World) {
        let (party, other) = (RelyingParty::create(&world).await, RelyingParty::create(&world).await);
        let register = async |party: &RelyingParty<'_>, identity| {
            let made = party.new_passkey(identity).await;
            Passkey::register(&made["options"], ORIGIN).unwrap().1
        };
        let first = register(&party, IDENTITY).await;
        assert_eq!(party.verify(&first).await.status, 200);
        for (party, identity) in [(&party, IDENTITY), (&party, "user-0002"), (&other, "user-0003")] {
            let mut copy = register(party, identity).await;
            (copy["id"], copy["rawId"]) = (first["id"].clone(), first["id"].clone());
            copy["response"]["attestationObject"] = first["response"]["attestationObject"].clone();
            assert_error(&party.verify(&copy).await, 409, 60317);
        }
    }
}

on_every_database! {
    async fn passkey_can_be_registered_for_ten_minutes(world: World) {
        let party = RelyingParty::create(&world).await;
        let made = party.new_passkey(IDENTITY).await;
        let (_, credential) = Passkey::register(&made["options"], ORIGIN).unwrap();
        let set_age = |seconds: i64| {
            sql(&world, &format!("UPDATE factors SET created_at = updated_at - {seconds} * 1000000"));
        };
        set_age(600);
        assert_error(&party.verify(&credential).await, 400, 60383);
        set_age(0);
        assert_eq!(party.verify(&credential).await.status, 200);
    }
}

on_every_database! {
    async fn exactly_one_of_many_concurrent_registrations_is_accepted(world: World) {
        let party = RelyingParty::create(&world).await;
        let made = party.new_passkey(IDENTITY).await;
        let (_, first) = Passkey::register(&made["options"], ORIGIN).unwrap();
        let (_, second) = Passkey::register(&made["options"], ORIGIN).unwrap();
        let path = party.path("VerifyFactor");
        let bodies = [&first, &second].into_iter().cycle().take(10);
        let requests = bodies.map(|body| Request::with_json(&world.server, &path, body)).collect();
        let (made, refused) = split_outcomes(&send_at_once(requests).await);
        assert_eq!(made.len(), 1);
        assert_eq!(refused, vec![(400, 60383); 9]);
    }
}

#[tokio::test]
async fn optional_members_of_a_registration_may_be_absent_or_null() {
    let world = World::ephemeral();
    let party = RelyingParty::create(&world).await;
    let changes: [fn(&mut Value); 5] = [
        |it| *it = json!({ "response": it["response"] }),
        |it| {
            it["authenticatorAttachment"] = Value::Null;
            it["type"] = Value::Null;
            it["response"]["transports"] = Value::Null;
        },
        |it| *it = json!({ "raw_id": it["rawId"], "response": snake_case(&it["response"]) }),
        // Twilio's documentation shows `rawId` in hexadecimal digits.
        |it| {
            it["rawId"] =
                decode(&it["id"]).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
        },
        |it| it["unknown"] = json!([1, { "a": null }]),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let made = party.new_passkey(IDENTITY).await;
        let (_, mut credential) = Passkey::register(&made["options"], ORIGIN).unwrap();
        change(&mut credential);
        let reply = party.verify(&credential).await;
        assert_eq!(reply.status, 200, "{number}: {reply:?}");
    }
}

/// Returns the response of a registration as twilio-python sends it.
fn snake_case(response: &Value) -> Value {
    json!({
        "client_data_json": response["clientDataJSON"],
        "attestation_object": response["attestationObject"],
        "transports": null,
    })
}

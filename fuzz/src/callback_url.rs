//! Webhook URLs: the signed URL is the requested one, overrides in the fragment stay within their limits, and
//! no spelling of an address passes the guard.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use domain::CallbackUrl;
use domain::parameter::Parameter;
use domain::webhooks::{Condition, Overrides};
use url::{Host, Url};

/// The guard module of `countersign-webhook-client`, without the HTTP client of that crate.
#[path = "../../crates/webhook-client/src/guard.rs"]
#[allow(dead_code, reason = "the target exercises the addresses alone")]
mod guard;

use guard::Guard;

/// Checks the input as a URL, and as the fragment of a URL.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    address(text);
    let with_fragment = format!("https://h.example/#{text}");
    if with_fragment.len() <= 2048 && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\')
    {
        assert_eq!(address(&with_fragment), overrides(text).is_some(), "{text}");
    }
    if let Ok(address) = text.parse() {
        guarded(address);
    }
    if let Some(bits) = data.first_chunk() {
        guarded(Ipv4Addr::from(*bits).into());
    }
    if let Some(bits) = data.first_chunk::<16>() {
        guarded(IpAddr::from(*bits));
    }
}

/// Returns whether `text` is accepted as a webhook URL; if so, checks that its parts are consistent.
fn address(text: &str) -> bool {
    let Ok(taken) = CallbackUrl::from_parameter(text) else { return false };
    assert!(text.len() <= 2048);
    assert_eq!(taken.as_str(), text);
    assert!(CallbackUrl::from_parameter(taken.as_str()).is_ok_and(|again| again == taken));

    let url = taken.url();
    assert!(matches!(url.scheme(), "http" | "https") && url.fragment().is_none());
    let (scheme, rest) = text.split_once("://").unwrap();
    assert!(scheme.eq_ignore_ascii_case(url.scheme()));
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    assert!(!authority.contains('@'), "a user's name, or room for one");

    // The signed URL excludes the fragment and has the same address as the requested URL.
    let signed = taken.signed();
    assert_eq!(signed, text.split('#').next().unwrap());
    assert_eq!(Url::parse(signed).as_ref(), Ok(url));
    let host = url.host_str().unwrap();
    assert_eq!(taken.destination(), format!("{host}:{}", url.port_or_known_default().unwrap()));

    // The request as the sender assembles it has the same address, and contains no line break.
    let (target, host_header) = (taken.request_target(), taken.host_header());
    let request = http::Request::post(&target).header("host", &host_header).body(()).unwrap();
    assert_eq!(request.uri().path_and_query().unwrap().as_str(), target);
    assert!(target.bytes().chain(host_header.bytes()).all(|byte| byte.is_ascii_graphic()), "{target}");
    let requested = format!("{}://{host_header}{target}", url.scheme());
    assert_eq!(Url::parse(&requested).as_ref(), Ok(url), "{requested}");

    match url.host().unwrap() {
        Host::Domain(name) => assert!(name.parse::<IpAddr>().is_err()),
        Host::Ipv4(address) => assert_eq!(host.parse(), Ok(address)),
        Host::Ipv6(address) => assert_eq!(host.trim_matches(['[', ']']).parse(), Ok(address)),
    }
    let fragment = text.split_once('#').map_or("", |(_, fragment)| fragment);
    assert_eq!(Some(taken.overrides().clone()), overrides(fragment));
    true
}

/// Returns the overrides as documented: the last value of each name counts, and all must be valid. A reference
/// implementation.
fn overrides(fragment: &str) -> Option<Overrides> {
    let mut given = BTreeMap::new();
    for pair in fragment.split('&') {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let good = match name {
            "ct" => is_within(value, 100, 10_000),
            "rt" | "tt" => is_within(value, 100, 15_000),
            "rc" => is_within(value, 0, 5),
            "rp" => value.split(',').all(|word| condition(word).is_some()),
            _ => continue,
        };
        if !good {
            return None;
        }
        given.insert(name, value);
    }
    let time = |name| given.get(name).map(|value| Duration::from_millis(value.parse().unwrap()));
    Some(Overrides {
        connect: time("ct"),
        read: time("rt"),
        total: time("tt"),
        retries: given.get("rc").map(|value| value.parse().unwrap()),
        policy: given.get("rp").map(|value| value.split(',').filter_map(condition).collect()),
    })
}

fn is_within(value: &str, min: u128, max: u128) -> bool {
    let digits = value.trim_start_matches('0');
    !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_digit())
        && digits.len() < 10
        && (min..=max).contains(&digits.parse().unwrap_or(0))
}

fn condition(word: &str) -> Option<Condition> {
    Some(match word {
        "4xx" => Condition::ClientError,
        "5xx" => Condition::ServerError,
        "ct" => Condition::Connect,
        "rt" => Condition::Read,
        "all" => Condition::All,
        _ => return None,
    })
}

/// Checks that the guard's decision is the same for every spelling of an address, including IPv6 forms that
/// contain an IPv4 address.
fn guarded(address: IpAddr) {
    let guard = Guard::default();
    let permitted = guard.permits(address);
    let everything = Guard::new(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
    assert!(everything.permits(address));
    match address {
        IpAddr::V4(address) => {
            assert!(!(permitted && is_special(address)), "{address}");
            let bits = u128::from(address.to_bits());
            let embedded = |front: u128| guard.permits(std::net::Ipv6Addr::from_bits(front | bits).into());
            assert_eq!(embedded(0xffff << 32), permitted, "mapped");
            assert_eq!(embedded(0x0064_ff9b << 96), permitted, "behind NAT64");
            assert!(!embedded(0), "compatible");
        }
        IpAddr::V6(address) => {
            let is_local = address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unique_local()
                || address.is_unicast_link_local();
            assert!(!(permitted && is_local), "{address}");
        }
    }
    let text = match address {
        IpAddr::V4(address) => format!("http://{address}/"),
        IpAddr::V6(address) => format!("http://[{address}]/"),
    };
    let url = CallbackUrl::from_parameter(&text).unwrap();
    let read = match url.url().host().unwrap() {
        Host::Ipv4(address) => IpAddr::from(address),
        Host::Ipv6(address) => IpAddr::from(address),
        Host::Domain(name) => panic!("{name}"),
    };
    assert_eq!(read, address);
}

/// Returns whether the standard library classifies the address as not public.
fn is_special(address: Ipv4Addr) -> bool {
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_documentation()
        || address.is_multicast()
        || address.is_broadcast()
}

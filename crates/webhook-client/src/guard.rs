//! Decides which addresses webhook requests may be sent to.
//!
//! **Threat.** An account holder chooses the URL of a webhook, but the request is sent from inside the
//! operator's network, and the response is visible in the debugger. This allows server-side request forgery.
//! A URL such as `http://169.254.169.254/` would reach the cloud's metadata service and its credentials.
//! `http://localhost:9200/` would reach a service that trusts its own machine. A series of URLs would map the
//! network. Checking the URL is not enough:
//!
//! - A public name may resolve to a private address, or to both kinds. It may resolve differently at the time
//!   of the request than at the time of the check (DNS rebinding).
//! - One address can be written in many ways: `2130706433`, `0x7f.1`, `[::ffff:127.0.0.1]`.
//! - A response may be a redirect, and a proxy would resolve the name where this server cannot check the
//!   result.
//!
//! **Mechanism.** The crate connects in one place, `connector.rs`, and only to addresses that [`Guard`]
//! permitted immediately before. The socket receives the address, never the name, so there is no second
//! resolution that could differ. A literal address in the URL takes the same path, after the `url` crate has
//! normalized its spelling. Redirects are not followed and proxies are not used. A reused connection keeps
//! its address.
//!
//! The guard forbids everything that is not public internet according to IANA's special-purpose registries
//! (RFC 6890). Operators who have internal receivers can permit individual networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// The policy that decides which addresses webhook requests may be sent to (docs/protocol/decisions.md, No.
/// 15).
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow: Vec<IpNet>,
}

impl Guard {
    /// Creates a guard that permits the public internet and the networks in `allow`.
    pub const fn new(allow: Vec<IpNet>) -> Self {
        Self { allow }
    }

    /// Returns whether webhook requests may be sent to `address`.
    pub fn permits(&self, address: IpAddr) -> bool {
        // Convert to IPv4 first: the operating system treats `::ffff:a.b.c.d` as `a.b.c.d`.
        let address = address.to_canonical();
        let allowed = self.allow.iter().any(|network| network.contains(&address));
        allowed
            || match address {
                IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
                IpAddr::V6(address) => match nat64_target(address) {
                    Some(target) => self.permits(target.into()),
                    None => {
                        GLOBAL_V6.contains(&address)
                            && !SPECIAL_V6.iter().any(|network| network.contains(&address))
                    }
                },
            }
    }

    /// Returns whether the host of `url` can be refused without name resolution: it is a forbidden address
    /// or a name of this machine (RFC 6761 section 6.3). Other names are checked when the webhook is sent.
    pub fn refuses_host_of(&self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Ipv4(address)) => !self.permits(address.into()),
            Some(Host::Ipv6(address)) => !self.permits(address.into()),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                (name == "localhost" || name.ends_with(".localhost"))
                    && !self.permits(Ipv4Addr::LOCALHOST.into())
                    && !self.permits(Ipv6Addr::LOCALHOST.into())
            }
            None => false,
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// IPv4 networks that are not part of the public internet.
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),        // this network; 0.0.0.0 is this machine
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // shared by carriers (RFC 6598); metadata of Alibaba Cloud
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // a public address, but the VM host in Azure
    v4(169, 254, 0, 0, 16),   // link-local; metadata of most clouds
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments; metadata of Oracle Cloud
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // 6to4 relays, withdrawn (RFC 7526)
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarking
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, and broadcast
];

/// The global unicast space allocated so far (RFC 4291 section 2.4). It contains no loopback, unique local,
/// link-local, site-local, multicast, or IPv4-compatible addresses, and no local-use NAT64 addresses (RFC
/// 8215).
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

/// Networks within [`GLOBAL_V6`] that are not part of the public internet.
const SPECIAL_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),     // protocol assignments: Teredo, benchmarking, ORCHID
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x2002, 0, 16),     // 6to4, a tunnel to any IPv4 address, withdrawn
    v6(0x3fff, 0, 20),     // documentation
];

/// Returns the IPv4 address embedded in a NAT64 address (RFC 6052), or `None` if `address` is not a NAT64
/// address.
fn nat64_target(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            let [.., a, b, c, d] = address.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowing(networks: &[&str]) -> Guard {
        Guard::new(networks.iter().map(|network| network.parse().unwrap()).collect())
    }

    fn permits(guard: &Guard, address: &str) -> bool {
        guard.permits(address.parse().unwrap())
    }

    #[test]
    fn public_addresses_are_permitted_as_webhook_receivers() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "168.63.129.15",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2001:200::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001::1",
            "3ffe:ffff::1",
        ] {
            assert!(permits(&Guard::default(), address), "{address}");
        }
    }

    #[test]
    fn special_purpose_addresses_are_forbidden_as_webhook_receivers() {
        for address in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",         // compatible with 127.0.0.1
            "::101:101",        // compatible with 1.1.1.1
            "::ffff:127.0.0.1", // mapped
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1", // translated, RFC 2765
            "64:ff9b::7f00:1",    // NAT64 of 127.0.0.1
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::101:101", // NAT64 within a site
            "100::1",             // discard only
            "2001::1",            // Teredo
            "2001:2::1",          // benchmarking
            "2001:10::1",         // ORCHID
            "2001:db8::1",
            "2002:7f00:1::1", // 6to4 of 127.0.0.1
            "2002:a9fe:a9fe::",
            "3fff::1",
            "4000::1", // not allocated
            "5f00::1", // segment routing
            "fc00::1",
            "fd00:ec2::254", // metadata of Amazon
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!permits(&Guard::default(), address), "{address}");
        }
    }

    #[test]
    fn only_public_addresses_and_the_allowed_networks_are_permitted() {
        let guard = allowing(&["10.1.0.0/16", "127.0.0.1/32", "fd00:1::/32"]);
        for address in
            ["10.1.2.3", "127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00:1::7", "1.1.1.1"]
        {
            assert!(permits(&guard, address), "{address}");
        }
        for address in ["10.2.0.0", "127.0.0.2", "::1", "::10.1.2.3", "2002:a01:203::", "fd00:2::7"] {
            assert!(!permits(&guard, address), "{address}");
        }
        assert!(permits(&allowing(&["::/0"]), "::1"));
        assert!(!permits(&allowing(&["::/0"]), "127.0.0.1"));
        assert!(permits(&allowing(&["0.0.0.0/0"]), "::ffff:127.0.0.1"));
    }

    #[test]
    fn url_with_a_forbidden_host_is_refused_without_resolving() {
        let refused = |guard: &Guard, url: &str| guard.refuses_host_of(&url.parse().unwrap());
        let hosts = [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "[::ffff:127.0.0.1]",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
        ];
        for host in hosts {
            let url = format!("http://{host}:8080/hook");
            assert!(refused(&Guard::default(), &url), "{host}");
            assert!(!refused(&allowing(&["127.0.0.0/8"]), &url), "{host}");
        }
        assert!(refused(&allowing(&["127.0.0.0/8"]), "http://[::1]/"));
        assert!(!refused(&allowing(&["::1/128"]), "http://localhost/"));
        for host in
            ["1.1.1.1", "receiver.example.com", "localhost.example.com", "notlocalhost", "[2606:4700::1]"]
        {
            assert!(!refused(&Guard::default(), &format!("https://{host}/")), "{host}");
        }
    }

    proptest::proptest! {
        /// No IPv6 address that embeds a forbidden IPv4 address is permitted.
        #[test]
        fn ipv6_address_that_embeds_a_forbidden_ipv4_address_is_not_permitted(bits: u32) {
            let guard = Guard::default();
            let plain = Ipv4Addr::from_bits(bits);
            let low = u128::from(bits);
            for embedded in [
                low,                              // compatible
                low | 0xffff << 32,               // mapped
                low | 0x0064_ff9b << 96,          // NAT64
                low << 80 | 0x2002 << 112,        // 6to4
                !low & 0xffff_ffff | 0x2001 << 112, // Teredo
            ] {
                let is_permitted = guard.permits(Ipv6Addr::from_bits(embedded).into());
                proptest::prop_assert!(!is_permitted || guard.permits(plain.into()));
            }
        }
    }
}

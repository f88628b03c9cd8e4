//! Determines the IP address of the client that sent a request, even if the request passed through reverse proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use ipnet::IpNet;

/// The networks of the proxies whose `X-Forwarded-For` header is trusted. By default, no proxy is trusted, and the
/// connection's peer counts as the client.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Creates a set that trusts every proxy in these networks.
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns whether `address` belongs to a trusted proxy.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns the client's IP address, or `None` if the connection is closed. The client is the connection's peer,
    /// unless the peer is a trusted proxy. In that case, the client is the rightmost address in `X-Forwarded-For` that
    /// is not a trusted proxy. IPv4-mapped IPv6 addresses are converted to IPv4.
    pub(crate) fn client_ip(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        // Several lines of a header form one list (RFC 9110, section 5.3). A line that is not valid text contains no
        // address.
        let lines = request.headers().get_all(HeaderName::from_static("x-forwarded-for"));
        let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or_default()).collect();
        Some(self.follow(peer, lines.iter().flat_map(|line| line.split(','))))
    }

    /// Follows the addresses in `forwarded` from right to left, starting at `peer`, as long as the current address is a
    /// trusted proxy. Returns the last address reached. Addresses added by an untrusted sender can be forged, so they
    /// are not used.
    fn follow<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut forwarded = forwarded.rev();
        while self.contains(client) {
            match forwarded.next().and_then(parse_address) {
                Some(previous) => client = previous,
                None => break,
            }
        }
        client
    }
}

/// Parses an IP address with or without a port, as proxies write it. Returns `None` if `text` is not an address.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let address = text.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// Returns the network by which a client is counted: the IPv4 address itself, or the /64 network of an IPv6 address.
/// Internet providers typically assign such a network to one customer.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn client_of(trusted: &[&str], peer: &str, lines: &[&str]) -> String {
        let networks = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let request = lines
            .iter()
            .fold(TestRequest::default(), |request, line| request.append_header(("X-Forwarded-For", *line)));
        let request = request.peer_addr(SocketAddr::new(peer.parse().unwrap(), 4711)).to_http_request();
        TrustedProxies::new(networks).client_ip(&request).unwrap().to_string()
    }

    #[test]
    fn peer_is_the_client_unless_it_is_a_trusted_proxy() {
        assert_eq!(client_of(&[], "10.0.0.1", &["198.51.100.7"]), "10.0.0.1");
        assert_eq!(client_of(&["10.0.0.0/8"], "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client_of(&["10.0.0.0/8"], "10.0.0.1", &[]), "10.0.0.1");
        let without_peer = TestRequest::default().to_http_request();
        assert_eq!(TrustedProxies::default().client_ip(&without_peer), None);
    }

    #[test]
    fn client_is_the_last_forwarded_address_that_is_not_a_trusted_proxy() {
        let trusted = &["10.0.0.0/8", "fd00::/8"];
        for (lines, expected) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            (&["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            (&["203.0.113.9", "198.51.100.7, 10.2.3.4"], "198.51.100.7"),
            (&["203.0.113.9, 198.51.100.7", "fd00::1,\t10.2.3.4"], "198.51.100.7"),
            (&["198.51.100.7:52100"], "198.51.100.7"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]:52100"], "2001:db8::7"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
            (&["198.51.100.7, ::ffff:10.2.3.4"], "198.51.100.7"),
            // If all addresses belong to trusted proxies, the first one is the client.
            (&["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
        ] {
            assert_eq!(client_of(trusted, "10.0.0.1", lines), expected, "{lines:?}");
            assert_eq!(client_of(trusted, "::ffff:10.0.0.1", lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn invalid_forwarded_address_ends_the_search_for_the_client_address() {
        for line in [
            "",
            " ",
            "unknown",
            "198.51.100.7,",
            "198.51.100.7, ,",
            "198.51.100.7 10.0.0.2",
            "198.51.100",
            "0x7f.1",
        ] {
            assert_eq!(client_of(&["10.0.0.0/8"], "10.0.0.1", &[line]), "10.0.0.1", "{line:?}");
        }
        assert_eq!(client_of(&["10.0.0.0/8"], "10.0.0.1", &["198.51.100.7, hidden, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client_of(&["10.0.0.0/8"], "10.0.0.1", &["198.51.100.7", "\u{e9}"]), "10.0.0.1");
    }
}

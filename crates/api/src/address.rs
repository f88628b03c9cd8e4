//! Where a request comes from: the address of the client, also behind proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use actix_web::http::header::HeaderName;
use actix_web::web::Data;
use actix_web::{HttpMessage as _, HttpRequest};
use ipnet::IpNet;

/// Networks of the proxies that are believed when they say whom they speak for. None by default: whoever
/// connects is the client.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Those of these networks.
    pub const fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client, going back from the peer through what each trusted proxy has added at the end of the list.
    /// What stands before the word of somebody who is not trusted is made up, for all that is known.
    fn client<'a>(&self, peer: IpAddr, reported: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut reported = reported.rev();
        while self.contain(client) {
            match reported.next().and_then(address) {
                Some(before) => client = before,
                None => break,
            }
        }
        client
    }
}

/// An address, as proxies write it: some add the port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let address = text.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

/// The network of one customer of a provider: an address of IPv4, 64 bits of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// A client, as the envelope notes it of each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(Option<IpAddr>);

/// The client that was noted of a request. `None` when the peer had gone.
pub(crate) fn noted(request: &HttpRequest) -> Option<IpAddr> {
    request.extensions().get::<Client>().and_then(|client| client.0)
}

/// Notes the client of a request.
pub(crate) fn note(request: &HttpRequest) {
    let client = Client(client(request));
    request.extensions_mut().insert(client);
}

/// The address of the client: that of the peer, or, where a trusted proxy is the peer, the right-most one of
/// `X-Forwarded-For` that is not a trusted proxy's too. IPv4 in IPv6 is IPv4. `None` when the peer has gone.
fn client(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    let Some(trusted) = request.app_data::<Data<TrustedProxies>>() else { return Some(peer.to_canonical()) };
    // Several lines are one list (RFC 9110, section 5.3). A line that can't be read holds no address.
    let lines = request.headers().get_all(HeaderName::from_static("x-forwarded-for"));
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or_default()).collect();
    Some(trusted.client(peer, lines.iter().flat_map(|line| line.split(','))))
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
        let request = request.app_data(Data::new(TrustedProxies::new(networks)));
        let request = request.peer_addr(SocketAddr::new(peer.parse().unwrap(), 4711)).to_http_request();
        client(&request).unwrap().to_string()
    }

    #[test]
    fn whoever_connects_is_the_client_unless_trusted() {
        assert_eq!(client_of(&[], "10.0.0.1", &["198.51.100.7"]), "10.0.0.1");
        assert_eq!(client_of(&["10.0.0.0/8"], "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client_of(&["10.0.0.0/8"], "10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client(&TestRequest::default().to_http_request()), None);
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_nobody_before_it() {
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
            // Everybody is trusted: the first one is where it began.
            (&["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
        ] {
            assert_eq!(client_of(trusted, "10.0.0.1", lines), expected, "{lines:?}");
            assert_eq!(client_of(trusted, "::ffff:10.0.0.1", lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_address_ends_the_way_back() {
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
        assert_eq!(client_of(&["10.0.0.0/8"], "10.0.0.1", &["198.51.100.7, nobody, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client_of(&["10.0.0.0/8"], "10.0.0.1", &["198.51.100.7", "\u{e9}"]), "10.0.0.1");
    }
}

//! Which addresses a name may lead to: what everybody reaches, and what only somebody inside reaches.
//!
//! Pure. Whoever owns a name decides what address it has, also one of this machine; so a grant of a name is no grant of
//! what is inside.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::target::Host;

/// Who reaches an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// Everybody.
    Public,
    /// Whoever is on this machine or in this network.
    Private,
    /// Only neighbours on one link (where clouds keep the credentials of machines), or nobody.
    Special,
}

/// Whether a request to this host may go to this address. `private`: the grant lets names lead into private networks.
pub(super) fn may_reach(host: &Host, address: IpAddr, private: bool) -> bool {
    match host {
        // It is what was granted.
        Host::V4(_) | Host::V6(_) => host.address() == Some(address),
        // The name of this machine, whatever a resolver says.
        Host::Name(name) if name == "localhost" || name.ends_with(".localhost") => {
            address.is_loopback()
        }
        Host::Name(_) => match zone(address) {
            Zone::Public => true,
            Zone::Private => private,
            Zone::Special => false,
        },
    }
}

pub(super) fn zone(address: IpAddr) -> Zone {
    match address {
        IpAddr::V4(address) => zone_v4(address),
        IpAddr::V6(address) => zone_v6(address),
    }
}

fn zone_v4(address: Ipv4Addr) -> Zone {
    match address.octets() {
        // This machine, private networks, and those of a provider.
        [127 | 10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Zone::Private,
        // "This" network, link-local, protocol assignments, documentation, 6to4 relays, benchmarks, multicast, reserved.
        [0 | 224..=255, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Zone::Special,
        _ => Zone::Public,
    }
}

fn zone_v6(address: Ipv6Addr) -> Zone {
    if address.is_loopback() {
        return Zone::Private;
    }
    let [a, b, c, d, .., g, h] = address.segments();
    let [high, low] = [g.to_be_bytes(), h.to_be_bytes()];
    let inside = zone_v4(Ipv4Addr::new(high[0], high[1], low[0], low[1]));
    match [a, b, c, d] {
        // Addresses of IPv4 in other clothes: mapped, and translated by NAT64.
        [0, 0, 0, 0] => match address.to_ipv4_mapped() {
            Some(mapped) => zone_v4(mapped),
            None => Zone::Special,
        },
        [0x64, 0xff9b, 0, 0] => inside,
        [0xfc00..=0xfdff, ..] => Zone::Private,
        // Documentation, and tunnels, which have an address of IPv4 inside.
        [0x2001, 0 | 0xdb8, ..] | [0x2002, ..] => Zone::Special,
        [0x2000..=0x3fff, ..] => Zone::Public,
        _ => Zone::Special,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_public_only_where_everybody_reaches_them() {
        for (zone, addresses) in [
            (
                Zone::Public,
                &[
                    "1.1.1.1",
                    "93.184.215.14",
                    "172.15.0.1",
                    "172.32.0.1",
                    "100.63.0.1",
                    "100.128.0.1",
                    "2606:4700::1111",
                    "::ffff:1.1.1.1",
                    "64:ff9b::101:101",
                ][..],
            ),
            (
                Zone::Private,
                &[
                    "127.0.0.1",
                    "127.255.255.255",
                    "10.0.0.1",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.1.1",
                    "100.64.0.1",
                    "::1",
                    "fd00::1",
                    "fc00::1",
                    "::ffff:127.0.0.1",
                    "::ffff:10.1.2.3",
                    "64:ff9b::7f00:1",
                ],
            ),
            (
                Zone::Special,
                &[
                    "0.0.0.0",
                    "0.1.2.3",
                    "169.254.169.254",
                    "192.0.2.1",
                    "198.18.0.1",
                    "203.0.113.9",
                    "224.0.0.1",
                    "240.0.0.1",
                    "255.255.255.255",
                    "::",
                    "::127.0.0.1",
                    "fe80::1",
                    "fec0::1",
                    "ff02::1",
                    "2001:db8::1",
                    "2001::1",
                    "2002:7f00:1::",
                    "64:ff9b::a9fe:a9fe",
                    "64:ff9b:1::1",
                    "::ffff:169.254.169.254",
                    "100::1",
                ],
            ),
        ] {
            for text in addresses {
                assert_eq!(super::zone(text.parse().unwrap()), zone, "{text}");
            }
        }
    }

    #[test]
    fn a_name_leads_inside_only_where_that_is_granted() {
        for (host, address, private, may) in [
            ("api.example.com", "1.1.1.1", false, true),
            ("api.example.com", "127.0.0.1", false, false),
            ("api.example.com", "10.0.0.1", false, false),
            ("api.example.com", "10.0.0.1", true, true),
            ("api.example.com", "127.0.0.1", true, true),
            ("api.example.com", "169.254.169.254", true, false),
            ("localhost", "127.0.0.1", false, true),
            ("localhost", "::1", false, true),
            ("localhost", "10.0.0.1", true, false),
            ("a.localhost", "127.0.0.1", false, true),
            ("127.0.0.1", "127.0.0.1", false, true),
            ("169.254.169.254", "169.254.169.254", false, true),
            ("[::1]", "::1", false, true),
            ("[::1]", "127.0.0.1", true, false),
        ] {
            let found = may_reach(
                &Host::parse(host).unwrap(),
                address.parse().unwrap(),
                private,
            );
            assert_eq!(found, may, "{host} at {address}, {private}");
        }
    }
}

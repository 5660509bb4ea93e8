//! Where a listener listens and who may connect, as a person writes them (CONTRACT section 1,
//! `server.listeners`). Nothing is resolved or opened here.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// `host:port`, `[::1]:port`, `/path/to.sock` or `systemd:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A name or address (without brackets) and a port; 0 lets the system choose one.
    Tcp {
        /// Resolved when the listener starts.
        host: String,
        /// 0-65535.
        port: u16,
    },
    /// The path of a Unix socket: absolute, or relative to the caller's base; without a `/` it ends
    /// in `.sock`.
    Unix(String),
    /// A socket passed by the service manager under this name (`FileDescriptorName=`).
    Systemd(String),
}

/// Why a text names no place to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected host:port, [address]:port, /path/to.sock or systemd:NAME")]
pub struct ListenAddressError;

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let clean =
            |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_control() || c == ' ');
        if let Some(name) = text.strip_prefix("systemd:") {
            return clean(name)
                .then(|| Self::Systemd(name.to_owned()))
                .ok_or(ListenAddressError);
        }
        // `127.0.0.1` is a forgotten port, not the name of a socket.
        if text.contains('/') || (text.ends_with(".sock") && !text.contains(':')) {
            return (!text.contains('\0'))
                .then(|| Self::Unix(text.to_owned()))
                .ok_or(ListenAddressError);
        }
        let (host, port) = text.rsplit_once(':').ok_or(ListenAddressError)?;
        let host = match host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(v6) if v6.contains(':') => v6,
            Some(_) => return Err(ListenAddressError),
            None if host.contains([':', '[', ']']) => return Err(ListenAddressError),
            None => host,
        };
        let digits = !port.is_empty() && port.bytes().all(|octet| octet.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits && clean(host) => Ok(Self::Tcp {
                host: host.to_owned(),
                port,
            }),
            _ => Err(ListenAddressError),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => f.write_str(path),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// A network: an address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No address, or no number of bits that fits it.
    #[error("expected an address or a network such as 192.0.2.0/24 or 2001:db8::/32")]
    Syntax,
    /// `127.0.0.1/8`: bits are set that the length says do not count.
    #[error("the address has bits set beyond its prefix length")]
    HostBits,
}

impl Cidr {
    /// `127.0.0.0/8`.
    pub const LOOPBACK_V4: Self = Self {
        address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
        bits: 8,
    };
    /// `::1`.
    pub const LOOPBACK_V6: Self = Self {
        address: IpAddr::V6(Ipv6Addr::LOCALHOST),
        bits: 128,
    };

    /// Every address of its family is in it.
    pub fn is_everything(&self) -> bool {
        self.bits == 0
    }

    /// Whether `ip` is in the network. An IPv4 address written as IPv6 (`::ffff:a.b.c.d`) counts
    /// as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4()
            && significant(ip, self.bits) == significant(self.address, self.bits)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Syntax)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) if bits.bytes().all(|octet| octet.is_ascii_digit()) => {
                bits.parse().map_err(|_| CidrError::Syntax)?
            }
            Some(_) => return Err(CidrError::Syntax),
        };
        if bits > width {
            return Err(CidrError::Syntax);
        }
        if significant(address, bits) != significant(address, width) {
            return Err(CidrError::HostBits);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The leading `bits` of the address, the rest zero, left-aligned in 128.
fn significant(ip: IpAddr, bits: u8) -> u128 {
    let left = match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    left & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Option<ListenAddress> {
        Some(ListenAddress::Tcp {
            host: host.to_owned(),
            port,
        })
    }

    #[test]
    fn listen_addresses() {
        let rows = [
            ("127.0.0.1:2424", tcp("127.0.0.1", 2424)),
            ("localhost:0", tcp("localhost", 0)),
            ("[::1]:24", tcp("::1", 24)),
            ("lmtp.sock", Some(ListenAddress::Unix("lmtp.sock".into()))),
            ("127.0.0.1", None),
            ("localhost", None),
            (
                "/run/a b/lmtp.sock",
                Some(ListenAddress::Unix("/run/a b/lmtp.sock".into())),
            ),
            ("run/lmtp:1", Some(ListenAddress::Unix("run/lmtp:1".into()))),
            ("systemd:lmtp", Some(ListenAddress::Systemd("lmtp".into()))),
            ("systemd:", None),
            ("", None),
            ("2424", None),
            (":2424", None),
            ("host:", None),
            ("host:+1", None),
            ("host:65536", None),
            ("::1:24", None),
            ("[host]:24", None),
            ("a host:24", None),
            ("/a\0b", None),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
            if let Some(address) = expected {
                assert_eq!(address.to_string(), text);
            }
        }
    }

    #[test]
    fn networks() {
        let rows = [
            ("127.0.0.0/8", "127.255.0.1", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("::1", "::1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "127.0.0.1", false),
        ];
        for (network, ip, inside) in rows {
            let network: Cidr = network.parse().unwrap();
            assert_eq!(
                network.contains(ip.parse().unwrap()),
                inside,
                "{network} {ip}"
            );
        }
    }

    #[test]
    fn what_is_no_network() {
        let rows = [
            ("", CidrError::Syntax),
            ("localhost", CidrError::Syntax),
            ("127.0.0.1/33", CidrError::Syntax),
            ("::/129", CidrError::Syntax),
            ("127.0.0.1/", CidrError::Syntax),
            ("127.0.0.1/+8", CidrError::Syntax),
            ("127.0.0.1/8", CidrError::HostBits),
        ];
        for (text, error) in rows {
            assert_eq!(text.parse::<Cidr>(), Err(error), "{text:?}");
        }
    }
}

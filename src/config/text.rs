//! Settings that are written as one text: sizes, times, places, addresses, patterns of paths.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::setting::{Setting, Shape, Shown, Written};
use super::settings::{Endpoint, NamedAddress, SecretSource};
use super::source::{Place, Report};
use crate::mail::Address;
use crate::smtp::{Cidr, ListenAddress};

/// A value that is read from text with [`FromStr`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Text<T>(pub(crate) T);

impl<'de, T> Deserialize<'de> for Text<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Self)
            .map_err(|words| D::Error::custom(format!("{text:?}: {words}")))
    }
}

/// Octets, written with a unit: `B KiB MiB GiB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HELP: &str = "a size is a number with its unit: B, KiB, MiB or GiB (`50MiB`)";
        let (number, unit) = number_and_unit(text).ok_or(HELP)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(HELP),
        };
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or("a size that no machine has")
    }
}

/// A time span, written with a unit: `s m h d`. At most 100 years.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HELP: &str = "a time is a number with its unit: s, m, h or d (`30s`)";
        const LONGEST: u64 = 100 * 366 * 86_400;
        let (number, unit) = number_and_unit(text).ok_or(HELP)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(HELP),
        };
        let seconds = number.checked_mul(seconds).filter(|s| *s <= LONGEST);
        seconds
            .map(|s| Self(Duration::from_secs(s)))
            .ok_or("over 100 years")
    }
}

/// A number with the largest unit that divides it.
fn with_unit(f: &mut fmt::Formatter<'_>, number: u64, units: &[(u64, &str)]) -> fmt::Result {
    let fits = |(size, _): &&(u64, &str)| number > 0 && number.is_multiple_of(*size);
    match units.iter().find(fits).or(units.last()) {
        Some((size, unit)) => write!(f, "{}{unit}", number / size),
        None => write!(f, "{number}"),
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (1 << 30, "GiB"),
            (1 << 20, "MiB"),
            (1 << 10, "KiB"),
            (1, "B"),
        ];
        with_unit(f, self.0, &units)
    }
}

impl Written for Size {
    fn shape() -> Shape {
        Shape::Text("^[0-9]+(B|KiB|MiB|GiB)$")
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_unit(
            f,
            self.0.as_secs(),
            &[(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")],
        )
    }
}

impl Written for Time {
    fn shape() -> Shape {
        Shape::Text("^[0-9]+[smhd]$")
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// A mail address.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mail(pub(crate) Address);

impl FromStr for Mail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Address::parse(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl fmt::Display for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Written for Mail {
    fn shape() -> Shape {
        Shape::Text(".@.")
    }
}

impl fmt::Display for NamedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => self.address.fmt(f),
            name => write!(f, "{name} <{}>", self.address),
        }
    }
}

impl Written for NamedAddress {
    fn shape() -> Shape {
        Shape::Text("@")
    }
}

impl FromStr for NamedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, address) = match text
            .trim()
            .strip_suffix('>')
            .and_then(|t| t.rsplit_once('<'))
        {
            Some((name, address)) => (name.trim().trim_matches('"').trim(), address.trim()),
            None => ("", text.trim()),
        };
        if name.chars().any(char::is_control) {
            return Err("a control character in the name".to_owned());
        }
        let Mail(address) = address.parse()?;
        Ok(Self {
            name: name.to_owned(),
            address,
        })
    }
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((host, port)) = host_and_port(text) {
            return match port {
                0 => Err("port 0 cannot be connected to"),
                port => Ok(Self::Tcp { host, port }),
            };
        }
        path(text)
            .map(Self::Unix)
            .ok_or("a place is `host:port`, `[address]:port` or a path")
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| port.parse().ok())
        .flatten()?;
    let bare = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner.parse::<core::net::Ipv6Addr>().ok().map(|_| inner)?,
        None => is_host(host).then_some(host)?,
    };
    Some((bare.to_owned(), port))
}

/// A host name or IPv4 address: ASCII letters, digits, dots, hyphens.
pub(crate) fn is_host(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn path(text: &str) -> Option<PathBuf> {
    // As for a listener: `127.0.0.1` and `2424` lack their other half, they name no socket.
    let good = text.contains('/') || (text.ends_with(".sock") && !text.contains(':'));
    (good && !text.contains("://") && !text.contains('\0')).then(|| PathBuf::from(text))
}

impl FromStr for SecretSource {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("credential:") {
            Some(name) if name.is_empty() || name.contains(['/', '\0']) => {
                Err("a credential is `credential:NAME`, a name without `/`")
            }
            Some(name) => Ok(Self::Credential(name.to_owned())),
            None if text.is_empty() || text.contains('\0') => Err("a path, or `credential:NAME`"),
            None => Ok(Self::File(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Written for Endpoint {
    fn shape() -> Shape {
        Shape::Text("^[^/]+:[0-9]+$|/|\\.sock$")
    }

    fn below(self, folder: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(folder.join(path)),
            other => other,
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

impl Written for SecretSource {
    fn shape() -> Shape {
        Shape::Free
    }

    fn below(self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            other => other,
        }
    }
}

impl Written for ListenAddress {
    fn shape() -> Shape {
        Shape::Text(":[0-9]+$|/|\\.sock$|^systemd:")
    }

    fn below(self, folder: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(folder.join(path).display().to_string()),
            other => other,
        }
    }
}

impl Written for Cidr {
    fn shape() -> Shape {
        Shape::Text("^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$")
    }
}

/// A size or a time that is more than nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NonZero<T>(pub(crate) T);

/// A time that is more than nothing.
pub(crate) type Span = Text<NonZero<Time>>;

/// A size that is more than nothing.
pub(crate) type Room = Text<NonZero<Size>>;

impl<T: FromStr<Err = &'static str> + Default + PartialEq> FromStr for NonZero<T> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value: T = text.parse()?;
        if value == T::default() {
            return Err("more than 0 is wanted");
        }
        Ok(Self(value))
    }
}

impl<T: fmt::Display> fmt::Display for NonZero<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Written for NonZero<Size> {
    fn shape() -> Shape {
        Shape::Text("^0*[1-9][0-9]*(B|KiB|MiB|GiB)$")
    }
}

impl Written for NonZero<Time> {
    fn shape() -> Shape {
        Shape::Text("^0*[1-9][0-9]*[smhd]$")
    }
}

/// The path of a file, or what is named instead of one (`credential:NAME`); may be empty.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct FilePath(pub(crate) String);

impl Setting for FilePath {
    fn shape() -> Shape {
        Shape::Free
    }

    fn shown(&self, report: &Report, place: Place) -> Shown {
        let Self(written) = self;
        let is_path = !written.is_empty() && !written.starts_with("credential:");
        let shown = match is_path {
            true => report.folder(place).join(written).display().to_string(),
            false => written.clone(),
        };
        Shown::Leaf(shown.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table<T: FromStr>(rows: &[(&str, bool)]) {
        for (text, good) in rows {
            assert_eq!(text.parse::<T>().is_ok(), *good, "{text:?}");
        }
    }

    #[test]
    fn sizes_and_times_carry_their_unit() {
        assert_eq!("100KiB".parse(), Ok(Size(102_400)));
        assert_eq!("3d".parse(), Ok(Time(Duration::from_secs(259_200))));
        table::<Size>(&[
            ("0B", true),
            ("1GiB", true),
            ("50", false),
            ("50MB", false),
            ("50 MiB", false),
            ("-1B", false),
            ("1.5MiB", false),
            ("MiB", false),
            ("", false),
            ("99999999999GiB", false),
            ("99999999999999999999B", false),
        ]);
        table::<NonZero<Size>>(&[("0B", false), ("00KiB", false), ("1B", true), ("1", false)]);
        table::<NonZero<Time>>(&[("0s", false), ("0d", false), ("1s", true), ("1", false)]);
        table::<Time>(&[
            ("0s", true),
            ("5m", true),
            ("24h", true),
            ("5", false),
            ("5min", false),
            ("1h30m", false),
            ("99999999999999999d", false),
            ("40000d", false),
            ("", false),
        ]);
    }

    #[test]
    fn places() {
        table::<Endpoint>(&[
            ("/run/dovecot/lmtp", true),
            ("mx.example.jp:25", true),
            ("mx:0", false),
            ("dovecot.sock", true),
            ("dovecot", false),
            ("2424", false),
            ("http://x:1", false),
            ("a b:25", false),
        ]);
        table::<SecretSource>(&[
            ("secret", true),
            ("credential:smtp", true),
            ("credential:", false),
            ("credential:../x", false),
            ("", false),
        ]);
        table::<NamedAddress>(&[
            ("Mail filter <a@b.jp>", true),
            ("\"Mail, filter\" <a@b.jp>", true),
            ("a@b.jp", true),
            ("a\nb <a@b.jp>", false),
            ("<>", false),
            ("", false),
        ]);
    }
}

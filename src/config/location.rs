//! Where a mailbox's file lies: `<dir>/<domain>/<localpart>.yaml`.
//!
//! Parts are in the folded form of [`Address::key`] and percent-encoded so that none leaves its
//! folder: `%`, `/`, control characters and a leading dot always; every octet outside
//! `A-Z a-z 0-9 - . _ ~` may be, too (RFC 3986 2.3). A folder of an IDN may be named by its U-labels
//! or its A-labels.

use std::fmt::Write as _;
use std::fs::{DirEntry, FileType};
use std::path::{Path, PathBuf};

use crate::mail::Address;

/// Longest name of a file, octets (Linux).
const MOST_NAME: usize = 255;

/// The paths where the file of `address` may lie, the usual one first. None when the address makes
/// no file name.
pub(crate) fn candidates(dir: &Path, address: &Address) -> Vec<PathBuf> {
    candidates_of(dir, &address.key())
}

/// As [`candidates`], of the address with this [`Address::key`].
pub(crate) fn candidates_of(dir: &Path, key: &str) -> Vec<PathBuf> {
    let Some((local, domain)) = key.rsplit_once('@') else {
        return Vec::new();
    };
    if is_plain(local) && is_plain(domain) && !domain.contains("xn--") {
        let room = dir.as_os_str().len() + key.len() + "//.yaml".len();
        let mut path = PathBuf::with_capacity(room);
        path.push(dir);
        path.push(domain);
        path.push(local);
        let mut path = path.into_os_string();
        path.push(".yaml");
        return vec![path.into()];
    }
    let ascii = idna::domain_to_ascii(domain).unwrap_or_default();
    let mut found = Vec::new();
    for domain in [domain, ascii.as_str()] {
        for strict in [false, true] {
            let (folder, file) = (
                encode(domain, strict),
                format!("{}.yaml", encode(local, strict)),
            );
            let path = dir.join(&folder).join(&file);
            let good = !folder.is_empty() && folder.len() <= MOST_NAME && file.len() <= MOST_NAME;
            if good && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found
}

/// The address whose file this is, by the last two parts of its path.
pub(crate) fn address_of(path: &Path) -> Option<Address> {
    let local = path.file_name()?.to_str()?.strip_suffix(".yaml")?;
    let domain = path.parent()?.file_name()?.to_str()?;
    Address::parse(&format!("{}@{}", decode(local)?, decode(domain)?)).ok()
}

/// All mailbox files `<dir>/<domain>/<localpart>.yaml`, sorted. Folders that cannot be read have
/// none.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    each_file(dir, &mut |entry| files.push(entry.path()));
    files.sort();
    files
}

/// Each of [`files_below`], in no order and without all of their names in memory.
pub(crate) fn each_file(dir: &Path, then: &mut impl FnMut(&DirEntry)) {
    for entry in entries(dir) {
        if is_mailbox(&entry) && !entry.path().is_dir() {
            then(&entry);
        } else {
            let files = entries(&entry.path()).filter(is_mailbox);
            files.for_each(|file| then(&file));
        }
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = DirEntry> + use<> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
}

fn is_mailbox(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.as_encoded_bytes();
    name.ends_with(b".yaml") && !name.starts_with(b".")
}

/// Whether it can be read to an end; opening a pipe would wait for its writer.
pub(crate) fn is_file(entry: &DirEntry) -> bool {
    let is_file = |kind: FileType| kind.is_file() || kind.is_symlink() && entry.path().is_file();
    entry.file_type().is_ok_and(is_file)
}

/// Whether a file lies below `dir`, by the words of the two paths.
pub(crate) fn is_below(dir: &Path, path: &Path) -> bool {
    absolute(path).starts_with(absolute(dir))
}

/// The path from the root; links are not followed.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Whether a part is written as it is in every way of writing it, and makes a file name.
fn is_plain(part: &str) -> bool {
    let fits = (1..=MOST_NAME - ".yaml".len()).contains(&part.len());
    fits && !part.starts_with('.') && part.bytes().all(|octet| is_unreserved(octet.into()))
}

/// RFC 3986 2.3.
fn is_unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~')
}

fn encode(part: &str, strict: bool) -> String {
    let mut name = String::with_capacity(part.len());
    for (at, c) in part.char_indices() {
        let unsafe_here = matches!(c, '%' | '/') || c.is_control() || (at == 0 && c == '.');
        if unsafe_here || (strict && !is_unreserved(c)) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(name, "%{byte:02X}");
            }
        } else {
            name.push(c);
        }
    }
    name
}

fn decode(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (hex, after) = rest.split_at_checked(2)?;
        let hex = std::str::from_utf8(hex)
            .ok()
            .filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_address_has_one_place(key in "[a-z0-9._~-]{1,8}@([a-z0-9_~-]{1,8}\\.){0,2}[a-z0-9-]{1,8}") {
            let (local, domain) = key.split_once('@').unwrap();
            if is_plain(local) && is_plain(domain) && !domain.contains("xn--") {
                prop_assert_eq!(encode(local, false), local);
                prop_assert_eq!(encode(local, true), local);
                prop_assert_eq!(encode(domain, false), domain);
                prop_assert_eq!(encode(domain, true), domain);
                let ascii = idna::domain_to_ascii(domain).unwrap_or_default();
                prop_assert!(ascii.is_empty() || ascii == domain);
                let path = Path::new("d").join(domain).join(format!("{local}.yaml"));
                prop_assert_eq!(candidates_of(Path::new("d"), &key), [path]);
            }
        }
    }

    #[test]
    fn no_mailbox_name_leaves_its_folder() {
        for (part, plain) in [
            ("taro", "taro"),
            ("taro+news", "taro+news"),
            ("..", "%2E."),
            ("../../etc", "%2E.%2F..%2Fetc"),
            ("a/b", "a%2Fb"),
            ("a%2fb", "a%252fb"),
            ("nul\0", "nul%00"),
            ("山田", "山田"),
            (".hidden", "%2Ehidden"),
        ] {
            assert_eq!(encode(part, false), plain);
            assert_eq!(decode(&encode(part, false)).as_deref(), Some(part));
            assert_eq!(decode(&encode(part, true)).as_deref(), Some(part));
        }
        assert_eq!(encode("a+b", true), "a%2Bb");
        assert_eq!(decode("%"), None);
        assert_eq!(decode("%+1"), None);
    }
}

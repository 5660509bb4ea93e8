//! Any text as an address, a command's path, a network, a place to listen: what is read is written
//! and read again as the same, nothing in it can end a line, and a key is its own key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sekimori::mail::fold::fold_address;
use sekimori::mail::{Address, ReversePath};
use sekimori::smtp::command::Command;
use sekimori::smtp::{Cidr, ListenAddress};
use sekimori_fuzz::within;

fuzz_target!(|input: &[u8]| {
    within(64 * 1024 + 64 * input.len(), || {
        line(input);
        let text = String::from_utf8_lossy(input);
        if let Ok(address) = Address::parse(&text) {
            assert_eq!(address.to_string(), text);
            checked(&address);
        }
        if let Ok(place) = text.parse::<ListenAddress>() {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        if let Ok(network) = text.parse::<Cidr>() {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
    });
});

fn checked(address: &Address) {
    let text = address.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!((1..=64).contains(&address.local().len()));
    assert!((1..=255).contains(&address.domain().len()));
    assert_eq!(Address::parse(&text).as_ref(), Ok(address));
    let key = address.key();
    assert!(!key.chars().any(char::is_control), "{key:?}");
    assert_eq!(fold_address(&key).as_str(), key);
    // Folding may make a part too long to be an address.
    if let Ok(again) = Address::parse(&key) {
        assert_eq!(again.key(), key);
    }
}

/// A command line, with and without a verb before it.
fn line(octets: &[u8]) {
    let verbs = ["", "MAIL FROM:", "RCPT TO:", "XFORWARD ", "LHLO "];
    for verb in verbs {
        let line = [verb.as_bytes(), octets].concat();
        for default_domain in [None, Some("example.jp")] {
            match Command::parse(&line, default_domain) {
                Ok(command) => understood(&command),
                Err(reply) => {
                    assert!((500..600).contains(&reply.code));
                    let reply = reply.to_string();
                    assert!(
                        reply.len() <= 510 && reply.bytes().all(|o| (b' '..=b'~').contains(&o))
                    );
                }
            }
        }
    }
}

fn understood(command: &Command) {
    match command {
        Command::Mail(ReversePath::Address(address), _) => {
            checked(address);
            let again = format!("MAIL FROM:<{address}> SMTPUTF8");
            let Ok(Command::Mail(path, _)) = Command::parse(again.as_bytes(), None) else {
                panic!("{again:?} is not understood");
            };
            assert_eq!(path.address(), Some(address));
        }
        Command::Rcpt(address) => {
            checked(address);
            let again = format!("RCPT TO:<{address}>");
            assert_eq!(Command::parse(again.as_bytes(), None).as_ref(), Ok(command));
        }
        Command::Hello(_, name) => {
            let clean = |octet: u8| octet.is_ascii_alphanumeric() || b".-_:[]?".contains(&octet);
            assert!((1..=255).contains(&name.len()) && name.bytes().all(clean));
        }
        Command::Xforward(attributes) => assert!(!attributes.is_empty()),
        _ => {}
    }
}

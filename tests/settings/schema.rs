//! The schema against the parser: what the schema refuses, the parser refuses too.

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use sekimori::config::{Kind, example, schema};
use serde_json::Value;

use crate::keys::{file, keys};
use crate::{KINDS, is_good, yaml};

struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn of(kind: Kind) -> Self {
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V7);
        compiler
            .add_resource("settings.json", schema(kind))
            .unwrap();
        let index = compiler.compile("settings.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn takes(&self, value: &Value) -> bool {
        self.schemas.validate(value, self.index).is_ok()
    }
}

#[test]
fn it_is_a_schema_of_draft_07() {
    const DRAFT: &str = "http://json-schema.org/draft-07/schema#";
    let mut schemas = Schemas::new();
    let meta = Compiler::new().compile(DRAFT, &mut schemas).unwrap();
    for kind in KINDS {
        let schema = schema(kind);
        assert_eq!(schema["$schema"], DRAFT);
        assert!(schemas.validate(&schema, meta).is_ok());
    }
    let wrong = serde_json::json!({"type": 7});
    assert!(schemas.validate(&wrong, meta).is_err());
}

/// Good files in forms that the example does not have.
const GOOD: &[(Kind, &str)] = &[
    (Kind::Daemon, "version: 1"),
    (
        Kind::Daemon,
        "version: 1
server:
  listeners:
    - {name: a, listen: '[::1]:2424', clients: [10.0.0.0/8, 'fe80::/10', 192.0.2.1]}
    - {name: b, listen: lmtp.sock}
    - {name: c, listen: systemd:x, protocol: smtp, bare_newline: reject}
mailboxes: {domains: [a.example, 例え.jp], address_extension: '', cache: 0B, defaults: {spam: {notice: each}}}
announcement_senders: ['@a.example']
relay: {min_interval: 0s, per_minute: 0, retry: {factor: 1.5}, from: a@b.example, signature: {ja: 1}}
scanners: {virus: {address: '127.0.0.1:3310'}, spam: {engine: upstream}}
",
    ),
    (Kind::Mailbox, "version: 1\nmailbox: a@b.jp"),
    (
        Kind::Mailbox,
        "version: 1
mailbox: '\"a b\"@例え.jp'
reject: {from_suffixes: a.example, subject_contains: ['11', \"  xx \"], headers: []}
forwarding: {mode: all, all: {to: [a@c.jp]}}
auto_reply: {enabled: true, message: 5, start: 2026-12-28T00:00:00}
",
    ),
];

#[test]
fn good_files_pass() {
    for kind in KINDS {
        assert!(Schema::of(kind).takes(&yaml(&example(kind))), "{kind:?}");
    }
    for (kind, text) in GOOD {
        assert!(is_good(*kind, text), "{:#?}", crate::found(*kind, text));
        assert!(Schema::of(*kind).takes(&yaml(text)), "{text}");
    }
}

/// What is not built yet is a form of the file all the same: the parser alone refuses it, in words.
#[test]
fn what_is_not_built_yet_is_known_to_the_schema() {
    for text in [
        "trust: {srs: {enabled: true}, sign: {enabled: true}, verify: upstream}",
        "metrics: {listen: 127.0.0.1:9424}",
    ] {
        let text = format!("version: 1\n{text}\n");
        assert!(Schema::of(Kind::Daemon).takes(&yaml(&text)), "{text}");
        let found = crate::found(Kind::Daemon, &text);
        assert!(
            !found.is_empty() && found.iter().all(|d| d.id == "not-built"),
            "{found:#?}"
        );
    }
}

/// Mistakes that a schema can tell, and the parser tells too.
const BAD: &[(Kind, &str)] = &[
    (Kind::Daemon, "server: {hostname: a}"),
    (Kind::Daemon, "version: 2"),
    (Kind::Daemon, "version: '1'"),
    (Kind::Daemon, "version: 1\nserver: {hostnam: a}"),
    (Kind::Daemon, "version: 1\nserver: 5"),
    (Kind::Daemon, "version: 1\nserver: {hostname: [a]}"),
    (Kind::Daemon, "version: 1\nserver: {listeners: {name: a}}"),
    (
        Kind::Daemon,
        "version: 1\nserver: {listeners: [{protocol: pop3}]}",
    ),
    (
        Kind::Daemon,
        "version: 1\nserver: {listeners: [{listen: here}]}",
    ),
    (
        Kind::Daemon,
        "version: 1\nserver: {listeners: [{clients: [everyone]}]}",
    ),
    (
        Kind::Daemon,
        "version: 1\nserver: {listeners: [{max_connections: 0}]}",
    ),
    (Kind::Daemon, "version: 1\nserver: {timeouts: {command: 5}}"),
    (
        Kind::Daemon,
        "version: 1\nserver: {timeouts: {command: 5min}}",
    ),
    (
        Kind::Daemon,
        "version: 1\nserver: {timeouts: {command: 0s}}",
    ),
    (
        Kind::Daemon,
        "version: 1\nserver: {limits: {message_size: 50MB}}",
    ),
    (
        Kind::Daemon,
        "version: 1\nserver: {limits: {message_size: 0KiB}}",
    ),
    (
        Kind::Daemon,
        "version: 1\nserver: {limits: {recipients: many}}",
    ),
    (Kind::Daemon, "version: 1\nmailboxes: {writable: 'true'}"),
    (
        Kind::Daemon,
        "version: 1\nmailboxes: {defaults: {mailbox: a@b.jp}}",
    ),
    (
        Kind::Daemon,
        "version: 1\nmailboxes: {defaults: {version: 1}}",
    ),
    (
        Kind::Daemon,
        "version: 1\nmailboxes: {defaults: {spam: {notice: weekly}}}",
    ),
    (
        Kind::Daemon,
        "version: 1\nannouncement_senders: a\nannouncement_senders_file: b",
    ),
    (Kind::Daemon, "version: 1\nrelay: {port: 0}"),
    (Kind::Daemon, "version: 1\nrelay: {port: 65536}"),
    (Kind::Daemon, "version: 1\nrelay: {retry: {factor: 0.5}}"),
    (Kind::Daemon, "version: 1\nrelay: {from: nobody}"),
    (Kind::Daemon, "version: 1\nlogging: {level: loud}"),
    (Kind::Mailbox, "mailbox: a@b.jp"),
    (Kind::Mailbox, "version: 1\nmailbox: nobody"),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nreject: {headers: [from_missing, from_missing]}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nreject: {headers: [to_missing]}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nreject: {from_suffixes: ' '}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nreject: {from_suffixes: [5]}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nreject: {from_suffixes: [a, '']}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nreject: {from_suffixes: a, from_suffixes_file: b}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nforwarding: {mode: all, all: {to: [c@d.jp]}, rules: []}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nforwarding: {rules: [{attachment: true}]}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nforwarding: {rules: [{to: [c@d.jp], size: {at_least: 1B, at_most: 2B}}]}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nnotify: {fields: [size, size]}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nauto_reply: {per_sender: [{senders: a}]}",
    ),
    (
        Kind::Mailbox,
        "version: 1\nmailbox: a@b.jp\nspam: {scan: yes}",
    ),
    (Kind::Mailbox, "version: 1\nmailbox: a@b.jp\nspam: null"),
];

#[test]
fn bad_files_fail_for_both() {
    for (kind, text) in BAD {
        assert!(!is_good(*kind, text), "{text}");
        assert!(!Schema::of(*kind).takes(&yaml(text)), "{text}");
    }
}

/// Each of these at each key: where an editor marks a mistake, there is one.
const VALUES: &str = "\
true | false | 'true' | yes | 0 | 1 | 5 | -1 | 1.5 | 65535 | 99999999 | '5' | 5m | 0s | 00s | 1d | \
5MiB | 0B | 5MB | text | '' | ' ' | a@b.jp | '@' | a b@c.jp | [] | [''] | [a] | [5] | [a@b.jp] | \
[a@b.jp, a@b.jp] | [size] | [size, size] | [from_empty, from_empty] | {} | [{}] | {a: 1} | off | \
none | all | lmtp | smtp | ja | /run/x | x.sock | 127.0.0.1:25 | '[::1]:25' | systemd:x | \
10.0.0.0/8 | '::1' | [10.0.0.1, '::1'] | {min: 1} | {at_least: 1B} | null | ~ | 0x10 | 1e3 | \
'07:00' | 07:00 | 0660 | 2026-12-28T00:00:00+09:00 | [{to: [a@b.jp]}] | \
[{senders: a, message: b}] | {scan: true}";

#[test]
fn what_the_schema_refuses_the_parser_refuses() {
    let mut refused = 0;
    let mut accepted = 0;
    for kind in KINDS {
        let schema = Schema::of(kind);
        for path in keys(kind).keys() {
            for value in VALUES.split(" | ") {
                let text = file(path, value);
                let text = match path.starts_with("mailbox") && kind == Kind::Mailbox {
                    false if kind == Kind::Mailbox => format!("{text}mailbox: x@y.jp\n"),
                    _ => text,
                };
                let good = is_good(kind, &text);
                let taken = schema.takes(&yaml(&text));
                assert!(
                    taken || !good,
                    "the parser takes it, the schema does not:\n{text}"
                );
                refused += u32::from(!taken);
                accepted += u32::from(good);
            }
        }
    }
    assert!(refused > 5000 && accepted > 500, "{refused} {accepted}");
}

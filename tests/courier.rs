//! The courier over a real store, a scripted relay and a Maildir.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use sekimori::deliver::{Endpoint, HopSettings, Maildir, MaildirSettings, NextHop, Protocol, Tls};
use sekimori::relay::{Courier, Hops, Relay, RelaySettings, Retry};
use sekimori::store::{
    Batch, FileEntry, Id, MailHeader, OutgoingItem, OutgoingKind, OutgoingState, Settings, Store,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

const NOW: i64 = 1_700_000_000_000;
const MAIL: &[u8] = b"Subject: x\r\n\r\nbody\r\n";

fn clock() -> i64 {
    NOW
}

fn item(kind: OutgoingKind, recipients: &[&str]) -> OutgoingItem {
    OutgoingItem {
        id: Id::new(NOW),
        kind,
        mailbox: "taro@y.example".to_owned(),
        sender: "s@x.example".to_owned(),
        recipients: recipients.iter().map(|text| (*text).to_owned()).collect(),
        created_at: NOW,
        attempts: 0,
        next_attempt_at: NOW,
        last_reply: None,
        state: OutgoingState::Ready,
        give_up_at: NOW + 3_600_000,
        copy_kept: false,
        fallback: false,
        handoff: None,
        smtputf8: false,
        eight_bit: false,
        refused: Vec::new(),
    }
}

/// An SMTP server that answers `RCPT` by the first letter of the local part (`g`ood, `t`emporary,
/// `p`ermanent) and hangs up on the data of a mail to `d`.
async fn relay_server() -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (mails, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mails = mails.clone();
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                write.write_all(b"220 hop\r\n").await.unwrap();
                let mut cut = false;
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer = match line.get(..9).unwrap_or(&line) {
                        "RCPT TO:<" => match line.as_bytes()[9] {
                            b't' => "450 4.2.0 later\r\n",
                            b'p' => "550 5.1.1 who\r\n",
                            letter => {
                                cut = letter == b'd';
                                "250 ok\r\n"
                            }
                        },
                        "DATA" => {
                            write.write_all(b"354 go\r\n").await.unwrap();
                            let mut mail = String::new();
                            while let Ok(Some(line)) = lines.next_line().await {
                                if line == "." {
                                    break;
                                }
                                mail.push_str(&line);
                                mail.push('\n');
                            }
                            mails.send(mail).unwrap();
                            if cut {
                                return;
                            }
                            "250 2.0.0 queued\r\n"
                        }
                        _ => "250 ok\r\n",
                    };
                    write.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (port, received)
}

struct World {
    root: tempfile::TempDir,
    store: Store,
    mails: mpsc::UnboundedReceiver<String>,
    port: u16,
}

impl World {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: root.path().join("state"),
            quarantine_max_bytes: u64::MAX,
            history_retention_ms: i64::MAX,
        };
        let store = Store::open(settings, NOW).unwrap();
        let (port, mails) = relay_server().await;
        Self {
            root,
            store,
            mails,
            port,
        }
    }

    /// Queues the item, lets the courier try it once, and gives what the store has of it then.
    async fn one_try(&self, item: OutgoingItem) -> Option<OutgoingItem> {
        let id = item.id;
        let header = MailHeader {
            sender: "s@x.example".to_owned(),
            client: String::new(),
            trace: "Received: here\r\n".to_owned(),
            received_at: NOW,
            entries: vec![FileEntry::Outgoing(item.clone())],
        };
        self.store.write_mail(&header, &[MAIL]).unwrap();
        let mut batch = Batch::new();
        batch.put_outgoing(&item);
        self.store.commit(batch).await.unwrap();
        let hops = Hops {
            next_hop: self.next_hop(),
            relay: self.relay(),
        };
        let hops = Arc::new(ArcSwap::from_pointee(hops));
        let wake = Arc::new(Notify::new());
        let courier = Courier::new(self.store.clone(), hops, wake, [7; 32], clock);
        courier.send_now(id).await.unwrap();
        self.store.outgoing_get(id).unwrap()
    }

    fn relay(&self) -> Relay {
        Relay::new(RelaySettings {
            hop: HopSettings {
                protocol: Protocol::Smtp,
                endpoint: Endpoint::Tcp {
                    host: "127.0.0.1".to_owned(),
                    port: self.port,
                },
                hostname: "mx.example.jp".to_owned(),
                tls: Tls::None,
                auth: None,
                timeout: Duration::from_secs(5),
                max_connections: 2,
            },
            min_interval: Duration::ZERO,
            per_minute: 0,
            retry: Retry {
                first: Duration::from_secs(60),
                factor: 2.0,
                longest: Duration::from_secs(600),
                give_up: Duration::from_secs(1),
            },
        })
        .unwrap()
    }

    fn next_hop(&self) -> NextHop {
        NextHop::Maildir(Maildir::new(MaildirSettings {
            path: self.root.path().join("%{domain}/%{localpart}"),
            fsync: false,
        }))
    }

    fn mailbox(&self) -> Vec<String> {
        let Ok(folder) = std::fs::read_dir(self.root.path().join("y.example/taro/new")) else {
            return Vec::new();
        };
        folder
            .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn a_forward_goes_out_with_its_loop_mark() {
    let mut world = World::new().await;
    let left = world
        .one_try(item(
            OutgoingKind::Forward,
            &["good@z.example", "g@z.example"],
        ))
        .await;
    assert_eq!(left, None);
    let mail = world.mails.recv().await.unwrap();
    let (head, rest) = mail.split_at(mail.find("Received:").unwrap());
    assert!(head.starts_with("X-Sekimori-Fwd: "), "{head}");
    assert_eq!(rest, "Received: here\nSubject: x\n\nbody\n");
    assert!(world.mails.try_recv().is_err(), "one transaction for both");
    assert!(world.mailbox().is_empty());
}

#[tokio::test]
async fn a_refused_forward_ends_in_the_mailbox_and_the_rest_goes_on() {
    let world = World::new().await;
    let rows: &[(&[&str], bool, &[&str], usize)] = &[
        (&["perm@z.example"], false, &[], 1),
        (&["good@z.example", "perm@z.example"], false, &[], 2),
        (
            &["perm@z.example", "temp@z.example"],
            false,
            &["temp@z.example"],
            3,
        ),
        (&["temp@z.example"], false, &["temp@z.example"], 3),
        (
            &["good@z.example", "perm@z.example"],
            true,
            &["perm@z.example"],
            3,
        ),
    ];
    for (recipients, copy_kept, open, mails) in rows {
        let item = OutgoingItem {
            copy_kept: *copy_kept,
            ..item(OutgoingKind::Forward, recipients)
        };
        let left = world.one_try(item).await;
        let still: Vec<_> = left
            .iter()
            .flat_map(|item| item.recipients.clone())
            .collect();
        assert_eq!(still, *open, "{recipients:?}");
        assert_eq!(world.mailbox().len(), *mails, "{recipients:?}");
        if let Some(left) = left {
            let dead = *copy_kept;
            assert_eq!(left.state == OutgoingState::Dead, dead, "{recipients:?}");
            assert!(dead || left.next_attempt_at == NOW + 60_000);
        }
    }
    let note = "X-Sekimori-Forward-Failed: perm@z.example: 550 5.1.1 who\nReceived: here\n";
    for mail in world.mailbox() {
        assert!(mail.contains(note), "{mail}");
    }
}

#[tokio::test]
async fn a_forward_too_old_ends_in_the_mailbox() {
    let world = World::new().await;
    let old = OutgoingItem {
        give_up_at: NOW,
        ..item(OutgoingKind::Forward, &["temp@z.example"])
    };
    assert_eq!(world.one_try(old).await, None);
    assert_eq!(world.mailbox().len(), 1);
}

#[tokio::test]
async fn a_fallback_is_never_given_up() {
    let world = World::new().await;
    std::fs::create_dir_all(world.root.path().join("y.example")).unwrap();
    std::fs::write(world.root.path().join("y.example/taro"), "in the way").unwrap();
    let left = world
        .one_try(item(OutgoingKind::Forward, &["perm@z.example"]))
        .await
        .unwrap();
    assert!(left.fallback && left.state == OutgoingState::Ready);
    std::fs::remove_file(Path::new(world.root.path()).join("y.example/taro")).unwrap();
    let again = OutgoingItem {
        id: Id::new(NOW),
        give_up_at: NOW,
        next_attempt_at: NOW,
        ..left
    };
    assert_eq!(world.one_try(again).await, None);
    assert_eq!(world.mailbox().len(), 1);
}

#[tokio::test]
async fn a_notice_goes_out_at_most_once() {
    let mut world = World::new().await;
    let rows: &[(OutgoingKind, &str, bool)] = &[
        (OutgoingKind::Notify, "good@z.example", true),
        (OutgoingKind::Notify, "d@z.example", true),
        (OutgoingKind::Forward, "d@z.example", false),
        (OutgoingKind::AutoReply, "temp@z.example", false),
    ];
    for (kind, recipient, gone) in rows {
        let left = world.one_try(item(*kind, &[recipient])).await;
        assert_eq!(left.is_none(), *gone, "{kind:?} {recipient}");
    }
    let left = world
        .one_try(item(OutgoingKind::Notify, &["perm@z.example"]))
        .await
        .unwrap();
    assert_eq!(left.state, OutgoingState::Dead);
    assert_eq!(
        left.last_reply.as_deref(),
        Some("perm@z.example: 550 5.1.1 who")
    );
    let sent = world.mails.recv().await.unwrap();
    assert!(sent.starts_with("X-Sekimori-Fwd: "), "{sent}");
    let (_, letter) = sent.split_once('\n').unwrap();
    assert_eq!(letter, "Subject: x\n\nbody\n");
}

#[tokio::test]
async fn a_release_goes_to_the_mailbox_or_where_it_was_told() {
    let mut world = World::new().await;
    let left = world
        .one_try(item(
            OutgoingKind::Release,
            &["taro@y.example", "good@z.example"],
        ))
        .await;
    assert_eq!(left, None);
    assert_eq!(world.mailbox().len(), 1);
    assert_eq!(
        world.mails.recv().await.unwrap(),
        "Received: here\nSubject: x\n\nbody\n"
    );
}

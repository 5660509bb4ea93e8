//! Disks that are full in other ways than bytes, or read-only. They need a mount; where none is
//! allowed there is nothing to see. Bytes: `tests/blackbox/exit_codes.rs`, `tests/store.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sekimori::store::{
    Batch, Holder, Id, QuarantineEntry, QuarantineFilter, QuarantineState, Settings, Store,
};
use serde_json::json;

use crate::harness::{JIRO, Site, TARO, eventually, mail};

/// A small file system on a folder, unmounted with the value.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(folder: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        let options = format!("mode=0700,{options}");
        mount
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder);
        let status = mount.stderr(Stdio::null()).status();
        status
            .is_ok_and(|status| status.success())
            .then(|| Self(folder.to_owned()))
    }

    fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }

    /// Takes every inode.
    fn fill(&self) -> usize {
        let filler = self.0.join("filler");
        fs::create_dir(&filler).unwrap();
        let made = |n: usize| fs::File::create(filler.join(n.to_string())).is_ok();
        (0..).take_while(|n| made(*n)).count()
    }

    fn empty(&self) {
        fs::remove_dir_all(self.0.join("filler")).unwrap();
    }

    /// Takes every octet, in a file that can go.
    fn fill_octets(&self) -> PathBuf {
        let filler = self.0.join("octets");
        let mut file = fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        filler
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn no_inode_left_puts_mail_off_and_does_not_stop_a_start() {
    let site = Site::new().with_mailbox(TARO, "reject: {subject_contains: [offer]}\n");
    let Some(disk) = Mount::tmpfs(&site.path("state"), "size=100m,nr_inodes=400") else {
        return;
    };
    let mut daemon = site.start();
    let raw = |n: u32| mail("a@friend.example", &format!("offer {n}"));
    assert_eq!(
        daemon.give("a@friend.example", TARO, &raw(1)).verdict(),
        "quarantine/reject.subject_contains"
    );
    assert!(disk.fill() > 0);
    for restarted in [false, true] {
        if restarted {
            daemon.kill();
            daemon.start_again();
        }
        let mut session = daemon.lmtp();
        session.expect("LHLO mta.example.net", "250");
        let reply = session.command("MAIL FROM:<a@friend.example>");
        assert!(reply.starts_with("452 4.3.1"), "{reply}");
        assert_eq!(daemon.quarantine().len(), 1);
    }
    disk.empty();
    eventually("mail flows again", || {
        let mut session = daemon.lmtp();
        session.expect("LHLO mta.example.net", "250");
        let reply = session.command("MAIL FROM:<a@friend.example>");
        reply.starts_with("250").then_some(())
    });
    assert_eq!(
        daemon.give("a@friend.example", TARO, &raw(2)).verdict(),
        "quarantine/reject.subject_contains"
    );
    assert_eq!(daemon.quarantine().len(), 2);
    assert_eq!(daemon.one(&["store", "verify"])["problems"], json!([]));
    drop(daemon);
}

#[test]
fn lists_of_held_mail_that_a_full_disk_does_not_take_are_made_at_a_later_start() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Mount::tmpfs(folder.path(), "size=200m") else {
        return;
    };
    let path = folder.path().join("store");
    let open = || {
        let settings = Settings {
            path: path.clone(),
            quarantine_max_bytes: 1 << 30,
            history_retention_ms: 1000,
        };
        Store::open(settings, 1000).unwrap()
    };
    let store = open();
    let mut batch = Batch::new();
    for n in 0..20_000 {
        batch.put_quarantine(&held(&format!("m{}@example.jp", n % 1000)));
    }
    store.commit_blocking(batch).unwrap();
    drop(store);
    {
        // sled's own threads hold the file of a closed index for a moment.
        let db = eventually("the index is free", || sled::open(path.join("index")).ok());
        let keys: Vec<_> = db.scan_prefix(b"B").keys().map(Result::unwrap).collect();
        assert_eq!(keys.len(), 20_000);
        keys.iter().for_each(|key| drop(db.remove(key).unwrap()));
        db.flush().unwrap();
    }
    let filler = disk.fill_octets();
    for full in [true, false] {
        if !full {
            fs::remove_file(&filler).unwrap();
        }
        let store = open();
        assert_eq!(store.opened().unlisted, full);
        for (mailbox, entries) in [("m7@example.jp", 20), ("nobody@example.jp", 0)] {
            let filter = QuarantineFilter {
                mailbox: Some(mailbox.to_owned()),
                ..QuarantineFilter::default()
            };
            assert_eq!(store.quarantine_list(filter).count(), entries, "{mailbox}");
        }
        let listed = store.held_by(Holder::of("m7@example.jp")).count();
        assert_eq!(listed, if full { 0 } else { 20 });
    }
    drop(disk);
}

fn held(mailbox: &str) -> QuarantineEntry {
    QuarantineEntry {
        id: Id::new(1000),
        mailbox: mailbox.to_owned(),
        stage: "spam".to_owned(),
        class: "spam".to_owned(),
        entry: None,
        origin: None,
        sender: "a@friend.example".to_owned(),
        from: "a@friend.example".to_owned(),
        subject: "x".to_owned(),
        size: 1,
        received_at: 1000,
        expires_at: 2000,
        state: QuarantineState::Held,
        release_to: None,
        handoff: None,
    }
}

#[test]
fn a_disk_that_turns_read_only_touches_what_lies_on_it_and_recovers() {
    let site = Site::new().with_mailbox(TARO, "reject: {subject_contains: [offer]}\n");
    let mounts = ["mail", "state/mail"].map(|name| Mount::tmpfs(&site.path(name), "size=64m"));
    let [Some(maildir), Some(mails)] = mounts else {
        return;
    };
    let daemon = site.start();
    let held = "quarantine/reject.subject_contains";
    let give = |n: u32, kept: &str, holds: &str| {
        let raw = mail("a@friend.example", &format!("offer {n}"));
        let answers = daemon.hand_over("a@friend.example", &[JIRO, TARO], &raw);
        assert!(answers[0].verdict().starts_with(kept), "{answers:?}");
        assert!(answers[1].verdict().starts_with(holds), "{answers:?}");
        raw
    };
    give(1, "deliver", held);
    mails.remount("ro");
    let second = give(2, "deliver", "451 4.3.0");
    maildir.remount("ro");
    let third = give(3, "451 4.", "451 4.3.0");
    maildir.remount("rw");
    mails.remount("rw");
    assert_eq!(
        daemon.give("a@friend.example", TARO, &second).verdict(),
        held
    );
    for answer in daemon.hand_over("a@friend.example", &[JIRO, TARO], &third) {
        assert!(answer.0.starts_with("250"), "{answer:?}");
    }
    assert_eq!(daemon.quarantine().len(), 3);
    assert_eq!(daemon.mailbox(JIRO).len(), 3);
    assert_eq!(daemon.one(&["store", "verify"])["problems"], json!([]));
    drop(daemon);
}

//! Mailbox names and planted files: nothing outside a mailbox's own folder is read or written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};

use crate::harness::{Daemon, JIRO, Site, TARO, crlf, files, files_below, mail};

/// `RCPT` with these; what is taken is delivered, what is refused is refused for good.
const NAMES: &[&str] = &[
    "\"../x\"@east.example.jp",
    "../x@east.example.jp",
    "../../../../../../tmp/x@east.example.jp",
    "a/b@east.example.jp",
    "/etc/passwd@east.example.jp",
    "a/../b@east.example.jp",
    "..@east.example.jp",
    ".@east.example.jp",
    ".hidden@east.example.jp",
    "\".\"@east.example.jp",
    "%2e%2e%2fx@east.example.jp",
    "..%2fx@east.example.jp",
    "%00@east.example.jp",
    "a\\b@east.example.jp",
    "\"a\\\\..\\\\b\"@east.example.jp",
    "new@east.example.jp",
    "cur@east.example.jp",
    "tmp@east.example.jp",
    "-rf@east.example.jp",
    "\" \"@east.example.jp",
    "\"a@b\"@east.example.jp",
    "*@east.example.jp",
    "~root@east.example.jp",
    "$HOME@east.example.jp",
    "TARO2@EAST.EXAMPLE.JP",
    "taro3@east.example.jp.",
    "x@..",
    "x@.",
    "x@../..",
    "x@a/b",
    "x@%2e%2e",
    "x@.hidden",
    "x@-",
    "x@[../x]",
    "x@[127.0.0.1]",
    "\u{ff0e}\u{ff0e}\u{ff0f}x@east.example.jp",
    "x@\u{ff0e}\u{ff0e}\u{ff0f}x",
    "x@\u{2024}\u{2024}",
    "x@例え.jp",
];

fn anyone() -> Site {
    Site::new().with("domains: [east.example.jp, west.example.jp]", "domains: []")
}

/// Gives a mail to a name; whether it was taken. Never a 4xx: that would come back for days.
fn give(daemon: &Daemon, name: &str) -> bool {
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    session.expect("MAIL FROM:<a@s.example> SMTPUTF8", "250");
    let reply = session.command(&format!("RCPT TO:<{name}>"));
    if !reply.starts_with("250") {
        assert!(reply.starts_with('5'), "{name}: {reply}");
        return false;
    }
    session.expect("DATA", "354");
    session.data(&mail("a@friend.example", "x"));
    let reply = session.reply();
    assert!(reply.starts_with("250 2.0.0 "), "{name}: {reply}");
    true
}

#[test]
fn every_name_has_a_maildir_of_its_own_or_is_refused() {
    let daemon = anyone().start();
    let taken = NAMES.iter().filter(|name| give(&daemon, name)).count();
    assert!(taken >= 20, "{taken}");
    let mails = mail_files(&daemon.path(""));
    assert_eq!(mails.len(), taken);
    for path in mails {
        let inside = path.strip_prefix(daemon.path("mail")).unwrap();
        let parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap()).collect();
        assert_eq!((parts.len(), parts[2]), (4, "new"), "{inside:?}");
        let sound = |part: &&str| !part.starts_with('.') && part.is_ascii();
        assert!(parts[..2].iter().all(sound), "{inside:?}");
    }
}

#[test]
fn the_longest_names_have_a_maildir() {
    let daemon = anyone().start();
    let label = "d".repeat(63);
    let wide = "\u{fdfa}".repeat(21);
    let names = [
        format!("{}@east.example.jp", "l".repeat(64)),
        format!("{}@east.example.jp", "!".repeat(64)),
        format!("{}@east.example.jp", "太".repeat(21)),
        // Folding makes 18 letters of each.
        format!("{wide}@east.example.jp"),
        format!("{wide}x@east.example.jp"),
        format!("x@{label}.{label}.{label}.{label}"),
        format!("x@{}.jp", "例".repeat(80)),
    ];
    for name in &names {
        assert!(give(&daemon, name), "{name}");
        assert!(give(&daemon, name), "{name}");
    }
    let mails = mail_files(&daemon.path("mail"));
    assert_eq!(mails.len(), 2 * names.len());
    let folders: std::collections::BTreeSet<_> = mails.iter().map(|path| path.parent()).collect();
    assert_eq!(folders.len(), names.len());
}

#[test]
fn a_name_over_the_limits_is_refused() {
    let daemon = anyone().start();
    for name in [
        format!("{}@east.example.jp", "l".repeat(65)),
        format!("x@{}", "d".repeat(256)),
        format!("{}@east.example.jp", "l".repeat(1000)),
    ] {
        assert!(!give(&daemon, &name), "{name}");
    }
}

/// A name reads the file of its own settings alone.
#[test]
fn no_name_reads_settings_outside_its_folder() {
    let site = anyone().with("unknown: accept", "unknown: reject");
    let secret = "version: 1\nreject: {headers: [subject_missing]}\n";
    for place in [
        "outside.yaml",
        "mailboxes/outside.yaml",
        "mailboxes/west.example.jp/x.yaml",
        "mailboxes/east.example.jp/sub/x.yaml",
        "mailboxes/east.example.jp/.yaml",
    ] {
        site.write(place, secret);
    }
    let daemon = site.start();
    for name in [
        "../outside@east.example.jp",
        "../../outside@east.example.jp",
        "../west.example.jp/x@east.example.jp",
        "sub/x@east.example.jp",
        "sub%2fx@east.example.jp",
        "outside@..",
        "outside@.",
        "\"\"@east.example.jp",
        "x@east.example.jp/sub",
        "x@east.example.jp/../west.example.jp",
    ] {
        assert!(!give(&daemon, name), "{name}");
    }
    assert!(give(&daemon, "x@west.example.jp"));
}

/// S14: what stands where a mailbox's folder or file should be, planted by who may write there.
#[test]
fn no_planted_link_leads_out_of_the_mailbox() {
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 9] = [
        ("the mailbox is a link", |maildir, out| {
            symlink(out, maildir).unwrap();
        }),
        ("the domain is a link", |maildir, out| {
            let domain = maildir.parent().unwrap();
            fs::remove_dir(domain).unwrap();
            symlink(out, domain).unwrap();
        }),
        ("tmp is a link", |maildir, out| planted(maildir, out, "tmp")),
        ("new is a link", |maildir, out| planted(maildir, out, "new")),
        ("cur is a link", |maildir, out| planted(maildir, out, "cur")),
        ("a link to a folder beside", |maildir, _| {
            fs::create_dir_all(maildir).unwrap();
            symlink("../jiro", maildir.join("new")).unwrap();
        }),
        ("new is a file", |maildir, _| {
            fs::create_dir_all(maildir).unwrap();
            fs::write(maildir.join("new"), "").unwrap();
        }),
        ("new is a pipe", |maildir, _| {
            fs::create_dir_all(maildir).unwrap();
            let path = maildir.join("new");
            rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        }),
        ("a dangling link", |maildir, out| {
            symlink(out.join("nowhere"), maildir).unwrap();
        }),
    ];
    for (what, plant) in plants {
        let daemon = Site::new().start();
        let out = daemon.path("out");
        for folder in ["tmp", "new", "cur", "taro"] {
            fs::create_dir_all(out.join(folder)).unwrap();
        }
        let maildir = daemon.path("mail/east.example.jp/taro");
        fs::create_dir_all(maildir.parent().unwrap()).unwrap();
        plant(&maildir, &out);
        let reply = daemon
            .give("a@s.example", TARO, &mail("a@friend.example", "x"))
            .0;
        assert!(reply.starts_with("451 4.3.0"), "{what}: {reply}");
        assert!(files_below(&out).is_empty(), "{what}");
        assert!(!out.join("nowhere").exists(), "{what}");
    }
}

fn planted(maildir: &Path, out: &Path, name: &str) {
    fs::create_dir_all(maildir).unwrap();
    symlink(out.join(name), maildir.join(name)).unwrap();
}

/// The operator's own part of the path may be a link (a mail spool on another disk).
#[test]
fn a_link_in_the_operators_part_of_the_path_is_followed() {
    let site = Site::new();
    fs::create_dir(site.path("disk")).unwrap();
    symlink(site.path("disk"), site.path("mail")).unwrap();
    let daemon = site.start();
    assert!(give(&daemon, TARO));
    assert_eq!(
        files(&daemon.path("disk/east.example.jp/taro/new")).len(),
        1
    );
}

/// What is found in `new` with the name of our own file is neither written to nor changed.
#[test]
fn planted_files_are_left_alone() {
    let daemon = Site::new().start();
    assert!(give(&daemon, TARO));
    let maildir = daemon.path("mail/east.example.jp/taro");
    let mine = files(&maildir.join("new")).remove(0);
    let outside = daemon.path("outside");
    fs::write(&outside, "keep").unwrap();
    let name = mine.file_name().unwrap();
    fs::hard_link(&outside, maildir.join("cur").join(name)).unwrap();
    symlink(&outside, maildir.join("tmp/planted")).unwrap();
    symlink(&outside, maildir.join("new/planted")).unwrap();
    rustix::fs::mknodat(CWD, maildir.join("new/pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::create_dir(maildir.join("cur/folder.sekimori")).unwrap();
    let before = fs::read(&mine).unwrap();
    for _ in 0..3 {
        assert!(give(&daemon, TARO));
    }
    assert_eq!(fs::read(&mine).unwrap(), before);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "keep");
    let mode = fs::metadata(&outside).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644 & mode);
    assert_eq!(mail_files(&maildir.join("new")).len(), 4);
}

/// The store's own folders, whoever planted the link.
#[test]
fn export_writes_where_it_is_told_and_nowhere_else() {
    let daemon = Site::new()
        .with_mailbox(JIRO, "reject: {subject_contains: [held]}\n")
        .start();
    daemon.give(
        "a@s.example",
        JIRO,
        &crlf("From: a@b.example\nSubject: held ../../y\n\nz\n"),
    );
    let id = daemon.quarantine()[0]["id"].as_str().unwrap().to_owned();
    for bad in [
        "../state",
        "..",
        "/etc/passwd",
        "",
        ".",
        &format!("../{id}"),
    ] {
        for command in ["show", "export", "release", "delete"] {
            let code = daemon.cli(&["quarantine", command, bad]).code;
            assert!([64, 65, 66].contains(&code), "{command} {bad:?}: {code}");
        }
    }
    let out = daemon.path("out.eml").display().to_string();
    daemon
        .cli(&["quarantine", "export", &id, "--output", &out])
        .success();
    assert!(fs::read(out).unwrap().ends_with(b"\r\n\r\nz\r\n"));
}

/// Every file that a Maildir writer of ours made.
fn mail_files(folder: &Path) -> Vec<PathBuf> {
    let written = |path: &PathBuf| {
        let read = fs::read(path);
        read.is_ok_and(|octets| octets.starts_with(b"Return-Path:"))
    };
    let name = |path: &PathBuf| path.to_string_lossy().ends_with(".sekimori");
    let found = files_below(folder).into_iter();
    found.filter(|path| name(path) && written(path)).collect()
}

//! Files by their names and kinds: what is a mailbox file, what only looks like one.

use std::os::unix::fs::symlink;

use crate::site::{DAEMON, Site};

#[test]
fn files_that_are_never_read() {
    let site = Site::new(&[
        ("sekimori.yaml", DAEMON),
        (
            "mailboxes/east.example.jp/taro.yaml",
            "version: 1\nreject: {from_suffixes_file: list.yml}\n",
        ),
        ("mailboxes/east.example.jp/list.yml", "@spam.example\n"),
        ("mailboxes/east.example.jp/hanako.yml", "version: 1\n"),
        ("mailboxes/east.example.jp/jiro.YAML", "version: 1\n"),
        ("mailboxes/east.example.jp/.taro.yml", "half written"),
        ("mailboxes/README.md", "ours"),
        ("mailboxes/east.example.jp/taro.yaml.bak", "old"),
    ]);
    let listed = ["hanako.yml:1:1 stray-file", "jiro.YAML:1:1 stray-file"];
    assert_eq!(site.places(&[]), listed);
}

#[test]
fn names_that_are_never_looked_for() {
    let site = Site::new(&[
        ("sekimori.yaml", "version: 1\n"),
        ("mailboxes/a.example/Taro.yaml", "version: 1\n"),
        ("mailboxes/a.example/x%2by.yaml", "version: 1\n"),
        ("mailboxes/a.example/x%2By.yaml", "version: 1\n"),
        ("mailboxes/日本.example/a.yaml", "version: 1\n"),
        ("mailboxes/xn--wgv71a.example/a.yaml", "version: 1\n"),
        ("mailboxes/loose.yaml", "version: 1\n"),
    ]);
    assert_eq!(
        site.places(&[]),
        [
            "a.example/Taro.yaml:1:1 mailbox-path",
            "a.example/x%2by.yaml:1:1 mailbox-path",
            "loose.yaml:1:1 mailbox-path",
            "xn--wgv71a.example/a.yaml:1:1 two-files",
        ]
    );
}

#[test]
fn an_alias_that_is_a_mailbox() {
    let site = Site::new(&[
        ("sekimori.yaml", DAEMON),
        (
            "mailboxes/east.example.jp/taro.yaml",
            "version: 1\naliases: [jiro@east.example.jp]\n",
        ),
        ("mailboxes/east.example.jp/jiro.yaml", "version: 1\n"),
    ]);
    assert_eq!(site.places(&[]), ["taro.yaml:2:11 alias-of-mailbox"]);
    // The same for the one file.
    let one = site.places(&["mailboxes/east.example.jp/taro.yaml"]);
    assert_eq!(one, ["taro.yaml:2:11 alias-of-mailbox"]);
}

#[test]
fn what_is_no_file_is_said_and_ends_nothing() {
    let site = Site::new(&[
        ("sekimori.yaml", DAEMON),
        (
            "mailboxes/east.example.jp/z.yaml",
            "version: 1\nlangage: ja\n",
        ),
    ]);
    let folder = site.path("mailboxes/east.example.jp");
    symlink("nowhere", folder.join("gone.yaml")).unwrap();
    symlink("loop.yaml", folder.join("loop.yaml")).unwrap();
    std::fs::create_dir(folder.join("sub.yaml")).unwrap();
    symlink("z.yaml", folder.join("link.yaml")).unwrap();
    assert_eq!(
        site.places(&[]),
        [
            "gone.yaml:1:1 unreadable",
            "link.yaml:2:1 unknown-key",
            "loop.yaml:1:1 unreadable",
            "sub.yaml:1:1 unreadable",
            "z.yaml:2:1 unknown-key",
        ]
    );
}

#[test]
fn a_file_that_is_named_twice_is_read_once() {
    let site = Site::new(&[
        ("sekimori.yaml", DAEMON),
        (
            "mailboxes/east.example.jp/a.yaml",
            "version: 1\naliases: [x@east.example.jp]\n",
        ),
    ]);
    let file = "mailboxes/east.example.jp/a.yaml";
    assert!(site.places(&[file, "mailboxes", file]).is_empty());
    // Of two files the second has the clash.
    site.write(
        "mailboxes/east.example.jp/b.yaml",
        "version: 1\naliases: [x@east.example.jp]\n",
    );
    let both = site.places(&["mailboxes/east.example.jp"]);
    assert_eq!(both, ["b.yaml:2:11 duplicate"]);
}

/// Whoever may put a file there could repaint the terminal of the one who checks.
#[test]
fn names_and_text_of_files_reach_a_terminal_harmless() {
    let site = Site::new(&[
        ("sekimori.yaml", DAEMON),
        ("mailboxes/east.example.jp/\u{1b}[2Jred.yml", "version: 1\n"),
        (
            "mailboxes/east.example.jp/taro.yaml",
            "version: 1\nspam: {scna: yes, \u{202e}x: \u{9b}2J}\n",
        ),
    ]);
    let found = sekimori::config::check(&site.path("sekimori.yaml"), &[]);
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    let shown = shown.join("\n");
    assert!(shown.contains("stray-file"), "{shown}");
    assert!(shown.contains('\u{fffd}'), "{shown}");
    let harmful = |c: char| c != '\n' && sekimori::mail::is_harmful(c);
    assert!(!shown.contains(harmful), "{shown:?}");
}

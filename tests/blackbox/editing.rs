//! Commands that edit mailbox files, by the real program: what is written, said and answered.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Done, JIRO, PROGRAM, Site, TARO, eventually, files, mail};

const FILE: &str = "mailboxes/east.example.jp/taro.yaml";

fn text(site: &Site) -> String {
    fs::read_to_string(site.path(FILE)).unwrap()
}

/// Runs one command with `--json` and input; its one object.
fn edit(site: &Site, arguments: &[&str], input: &str) -> Value {
    let done = site.cli_with_input(&[arguments, &["--json"]].concat(), input.as_bytes());
    let mut values = done.success().json();
    assert_eq!(values.len(), 1, "{values:?}");
    let value = values.remove(0);
    assert_eq!(value["schema"], "sekimori.edit/1");
    value
}

#[test]
fn an_entry_counts_within_a_second_of_the_command() {
    let daemon = Site::new().start();
    let mut number = 0;
    let mut verdict = |daemon: &crate::harness::Daemon| {
        number += 1;
        let mail = mail("a@friend.example", &format!("special offer {number}"));
        daemon.give("a@s.example", TARO, &mail).verdict()
    };
    assert_eq!(verdict(&daemon), "deliver");
    let told = edit(
        &daemon,
        &[
            "reject",
            "add",
            "--mailbox",
            TARO,
            "--subject",
            "ＯＦＦＥＲ",
        ],
        "",
    );
    assert_eq!(told["changed"], true);
    eventually("the entry counts", || {
        verdict(&daemon).starts_with("quarantine").then_some(())
    });
    edit(
        &daemon,
        &[
            "reject",
            "remove",
            "--mailbox",
            "taro",
            "--subject",
            "offer",
        ],
        "",
    );
    eventually("the entry does not count any more", || {
        (verdict(&daemon) == "deliver").then_some(())
    });
}

#[test]
fn entries_come_from_arguments_or_stdin_and_duplicates_are_told() {
    let site = Site::new();
    let add = ["reject", "add", "--mailbox", "taro", "--subject"];
    let lines: String = (0..10_000).map(|n| format!("広告 {n}\r\n")).collect();
    let told = edit(&site, &add, &format!("\u{feff}{lines}\r\n広告　０\r\n"));
    assert_eq!(told["mailbox"], TARO);
    assert_eq!(told["added"].as_array().unwrap().len(), 10_000);
    assert_eq!(told["duplicates"], json!(["広告　０"]));
    assert_eq!(told["changed"], true);
    let before = text(&site);
    let told = edit(&site, &[&add[..], &["-"]].concat(), &lines);
    assert_eq!(told["duplicates"].as_array().unwrap().len(), 10_000);
    assert_eq!(told["changed"], false);
    assert_eq!(text(&site), before);
    let done = site.cli(&[&add[..], &["広告 1", "new #1"]].concat());
    let said = done.success().text();
    assert!(
        said.contains("taro.yaml: 1 added, 1 already there\n"),
        "{said}"
    );
    assert!(said.contains("already there: 広告 1\n"), "{said}");
    assert_eq!(text(&site), format!("{before}    new #1\n"));
    let listed = site.json(&["reject", "list", "--mailbox", "taro", "--subject"]);
    assert_eq!(listed.len(), 10_001);
    assert_eq!(
        listed[0],
        json!({"schema": "sekimori.entry/1", "mailbox": TARO, "list": "reject.subject_contains",
            "entry": "広告 0", "origin": "taro.yaml:5"})
    );
    let told = edit(
        &site,
        &["reject", "remove", "--mailbox", "taro", "--subject"],
        &lines,
    );
    assert_eq!(told["removed"].as_array().unwrap().len(), 10_000);
    site.cli(&["reject", "clear", "--mailbox", "taro"]).exit(64);
    let told = edit(
        &site,
        &["reject", "clear", "--mailbox", "taro", "--yes"],
        "",
    );
    assert_eq!(told["removed"], json!(["new #1"]));
    site.cli(&["check"]).success();
}

#[test]
fn bad_entries_are_named_with_their_lines_and_nothing_is_written() {
    let site = Site::new();
    let add = ["reject", "add", "--mailbox", TARO];
    let long = "x".repeat(321);
    let rows: [(&str, Vec<u8>, &[&str]); 4] = [
        (
            "--subject",
            format!("good\nx\n\u{200b}\u{200b}\n\n{long}\n").into_bytes(),
            &[
                "stdin:2:1: error[too-short]",
                "stdin:3:1: error[empty-pattern]",
                "stdin:5:1: error[too-long]",
            ],
        ),
        (
            "--subject",
            b"good\nb\xe9d\n".to_vec(),
            &["stdin:2:2: error[encoding]"],
        ),
        (
            "--subject",
            b"good\nb\x1b[2Jd\n".to_vec(),
            &["stdin:2:1: error[control]"],
        ),
        (
            "--header",
            b"from_missing\nfrom_gone\n".to_vec(),
            &["stdin:2:1: error[value]"],
        ),
    ];
    for (kind, input, expected) in rows {
        let done = site.cli_with_input(&[&add[..], &[kind]].concat(), &input);
        let done = done.exit(65);
        for line in expected {
            assert!(done.stderr.contains(line), "{line}: {}", done.stderr);
        }
        assert_eq!(done.stderr.matches("error[").count(), expected.len());
        assert!(!done.stderr.contains('\u{1b}'), "{:?}", done.stderr);
    }
    site.cli(&[&add[..], &["--subject", "good", ""]].concat())
        .exit(65);
    // Which list is meant is guessed only where there is no doubt.
    site.cli(&[&add[..], &["offer"]].concat()).exit(64);
    site.cli(&[&add[..], &["@x.example", "offer"]].concat())
        .exit(64);
    site.cli(&["notify", "set", "--mailbox", TARO, "a@b.example", "nobody@"])
        .exit(65);
    assert!(!site.path(FILE).exists());
    assert_eq!(
        edit(&site, &[&add[..], &["@x.example"]].concat(), "")["changed"],
        true
    );
}

#[test]
fn a_dry_run_shows_the_difference_and_writes_nothing() {
    let site = Site::new().with_mailbox(TARO, "# mine\nallow: {senders: [a@b.example]} # c\n");
    let before = text(&site);
    let arguments = [
        "allow",
        "add",
        "--mailbox",
        TARO,
        "--dry-run",
        "c@d.example",
    ];
    let said = site.cli(&arguments).success().text();
    let (_, diff) = said.split_once("+++ ").unwrap();
    let (_, hunk) = diff.split_once('\n').unwrap();
    assert_eq!(
        hunk,
        "@@ -1,3 +1,3 @@\n version: 1\n # mine\n-allow: {senders: [a@b.example]} # c\n\
         +allow: {senders: [a@b.example, \"c@d.example\"]} # c\n"
    );
    let told = edit(&site, &arguments, "");
    assert_eq!(
        (&told["changed"], &told["dry_run"]),
        (&json!(false), &json!(true))
    );
    assert!(told["diff"].as_str().unwrap().ends_with(hunk), "{told}");
    assert_eq!(text(&site), before);
    assert!(files(&site.path("mailboxes")).is_empty());
}

#[test]
fn who_may_not_and_what_is_not_there() {
    let site = Site::new().with("unknown: accept", "unknown: reject\n  writable: false");
    site.set_mailbox(TARO, "language: en\n");
    let add = |mailbox: &str, more: &[&str]| {
        site.cli(&[&["reject", "add", "--mailbox", mailbox, "@x.example"], more].concat())
    };
    let refused = add(TARO, &[]).exit(77);
    assert!(
        refused.stderr.contains("mailboxes.writable"),
        "{}",
        refused.stderr
    );
    add(TARO, &["--dry-run"]).success();
    add("nobody@else.example", &[]).exit(67);
    add("nobody", &[]).exit(67);
    add("no body@", &[]).exit(64);
    site.set_mailbox(TARO, "langauge: en\nspam: {scan: yes}\n");
    let bad = add(TARO, &["--dry-run"]).exit(78);
    assert_eq!(bad.stderr.matches("error[").count(), 2, "{}", bad.stderr);
    assert!(bad.stderr.contains("taro.yaml:2:1: error[unknown-key]"));
}

#[test]
fn a_folder_that_may_not_be_written_is_77() {
    let site = Site::new().with_mailbox(TARO, "language: en\n");
    let program = site.path("sekimori");
    fs::copy(PROGRAM, &program).unwrap();
    let mode = |path: &str, mode| {
        fs::set_permissions(site.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in ["mailboxes", "mailboxes/east.example.jp"] {
        mode(path, 0o555);
    }
    mode("", 0o755);
    let before = text(&site);
    let mut command = Command::new(program);
    command.arg("--config").arg(site.path("sekimori.yaml"));
    command.args(["reject", "add", "--mailbox", TARO, "@x.example"]);
    if rustix::process::geteuid().is_root() {
        // Nobody, whom the mode binds.
        command.uid(65_534).gid(65_534);
    }
    let done = Done::of(&mut command, b"").exit(77);
    assert!(done.stderr.contains("mailboxes"), "{}", done.stderr);
    assert_eq!(text(&site), before);
    for path in ["mailboxes", "mailboxes/east.example.jp"] {
        mode(path, 0o755);
    }
}

#[test]
fn two_editors_at_once_lose_nothing() {
    let site = Site::new();
    let adder = |who: &'static str| {
        let site = &site;
        move || {
            for number in 0..100 {
                let entry = format!("@{who}{number}.example");
                site.cli(&["reject", "add", "--mailbox", TARO, &entry])
                    .success();
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(adder("a"));
        scope.spawn(adder("b"));
    });
    let listed = site.json(&["reject", "list", "--mailbox", TARO, "--from"]);
    let listed: BTreeSet<&str> = listed
        .iter()
        .map(|e| e["entry"].as_str().unwrap())
        .collect();
    assert_eq!(listed.len(), 200);
    assert_eq!(
        files(&site.path("mailboxes/east.example.jp")),
        [site.path(FILE)]
    );
}

#[test]
fn a_kill_in_the_middle_leaves_the_old_file_or_the_new_one() {
    let entries = |who: &str, count| -> String {
        (0..count).map(|n| format!("@{who}{n}.example\n")).collect()
    };
    let old = format!(
        "version: 1\nreject:\n  from_suffixes: |\n{}",
        entries("old", 5000).replace('@', "    @")
    );
    let more = entries("new", 5000);
    let new = old.clone() + &more.replace('@', "    @");
    let site = Site::new();
    let beside = site.path("mailboxes/east.example.jp/.sekimori.new");
    for _ in 0..12 {
        site.write(FILE, &old);
        let mut child = Command::new(PROGRAM)
            .arg("--config")
            .arg(site.path("sekimori.yaml"))
            .args(["reject", "add", "--from", "--mailbox", TARO])
            .env_remove("SEKIMORI_CONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(more.as_bytes())
            .unwrap();
        eventually("it writes", || {
            let done = child.try_wait().unwrap().is_some();
            (done || beside.exists()).then_some(())
        });
        let _ = child.kill();
        child.wait().unwrap();
        let found = text(&site);
        assert!(found == old || found == new, "{} octets", found.len());
    }
    site.write(FILE, &old);
    let told = edit(
        &site,
        &["reject", "add", "--from", "--mailbox", TARO],
        &more,
    );
    assert_eq!(told["added"].as_array().unwrap().len(), 5000);
    assert_eq!(text(&site), new);
    assert_eq!(files(beside.parent().unwrap()), [site.path(FILE)]);
}

#[test]
fn rules_and_forwarding_of_all_mail_exclude_each_other() {
    let site = Site::new();
    let forward = |arguments: &[&str]| {
        let mailbox = ["--mailbox", TARO];
        let (command, rest) = arguments.split_first().unwrap();
        edit(
            &site,
            &[&["forward", command], &mailbox[..], rest].concat(),
            "",
        )
    };
    let fails = |code, arguments: &[&str]| {
        let (command, rest) = arguments.split_first().unwrap();
        site.cli(&[&["forward", command, "--mailbox", TARO], rest].concat())
            .exit(code)
    };
    fails(64, &["all"]);
    forward(&["all", "--to", "home@else.example", "--keep-copy", "false"]);
    assert_eq!(
        text(&site),
        "version: 1\nmailbox: taro@east.example.jp\nforwarding:\n  mode: all\n  all:\n    to: [home@else.example]\n    keep_copy: false\n"
    );
    let told = forward(&[
        "add",
        "--name",
        "税",
        "--subject",
        // White space at the ends of an entry does not count.
        " 請求書 ",
        "--to",
        "k@else.example",
    ]);
    assert_eq!(told["added"], json!(["rule 1 (税)"]));
    assert_eq!(told["removed"], json!(["home@else.example"]));
    assert!(
        told["notes"][0].as_str().unwrap().contains("exclude"),
        "{told}"
    );
    forward(&[
        "add",
        "--name",
        "big",
        "--at-least",
        "5MiB",
        "--to",
        "b@else.example",
        "--at",
        "1",
    ]);
    let shown = site.one(&["forward", "show", "--mailbox", TARO]);
    assert_eq!(shown["mode"], "rules");
    assert_eq!(shown["rules"][0]["name"], "big");
    assert_eq!(shown["rules"][1]["subject_contains"], json!(["請求書"]));
    forward(&["move", "big", "2"]);
    forward(&["pause", "1"]);
    forward(&["off"]);
    let shown = site.one(&["forward", "show", "--mailbox", TARO]);
    assert_eq!(shown["mode"], "off");
    assert_eq!(
        (&shown["rules"][0]["name"], &shown["rules"][0]["paused"]),
        (&json!("税"), &json!(true))
    );
    forward(&["resume"]);
    forward(&["resume", "税"]);
    let rules = text(&site);
    assert_eq!(
        rules,
        "version: 1\nmailbox: taro@east.example.jp\nforwarding:\n  rules:\n    - name: \"税\"\n      subject_contains: |\n        請求書\n      to: [k@else.example]\n      paused: false\n    - name: big\n      size:\n        at_least: 5MiB\n      to: [b@else.example]\n  mode: rules\n"
    );
    fails(66, &["remove", "3"]);
    fails(66, &["pause", "nobody"]);
    fails(64, &["move", "1", "3"]);
    fails(64, &["all", "--to", "home@else.example"]);
    let bad = fails(
        65,
        &["add", "--to", "taro@east.example.jp", "--subject", "xx"],
    );
    assert!(bad.stderr.contains("own-address"), "{}", bad.stderr);
    fails(65, &["add", "--to", "x@else.example", "--at-least", "5"]);
    assert_eq!(text(&site), rules);
    forward(&["remove", "big"]);
    let told = forward(&["remove", "税"]);
    assert_eq!(told["set"]["forwarding.mode"], "off");
    site.cli(&["check"]).success();
}

#[test]
fn notices_and_auto_replies_are_set() {
    let site = Site::new();
    let told = edit(
        &site,
        &[
            "notify",
            "set",
            "--mailbox",
            TARO,
            "--fields",
            "from,size",
            "m@else.example",
        ],
        "",
    );
    assert_eq!(told["set"]["notify.to"], json!(["m@else.example"]));
    let four = ["a@e.example", "b@e.example", "c@e.example", "d@e.example"];
    let bad = site.cli(&[&["notify", "set", "--mailbox", TARO], &four[..]].concat());
    assert!(bad.exit(65).stderr.contains("too-many"));
    assert_eq!(site.json(&["notify", "list", "--mailbox", TARO]).len(), 1);
    edit(&site, &["notify", "off", "--mailbox", TARO], "");
    assert_eq!(site.json(&["notify", "list", "--mailbox", TARO]).len(), 0);

    let reply = |arguments: &[&str], input| {
        let (command, rest) = arguments.split_first().unwrap();
        edit(
            &site,
            &[&["auto-reply", command, "--mailbox", TARO], rest].concat(),
            input,
        )
    };
    site.cli(&["auto-reply", "on", "--mailbox", TARO]).exit(65);
    reply(
        &[
            "set",
            "--message-file",
            "-",
            "--end",
            "2027-01-04T23:59:59+09:00",
        ],
        "休みます。\r\n\r\n  # またね\r\n\r\n",
    );
    reply(&["on"], "");
    reply(
        &[
            "set",
            "--sender",
            "@s.example",
            "--sender",
            "b@t.example",
            "--message",
            "お電話ください",
        ],
        "",
    );
    reply(
        &[
            "set",
            "--sender",
            "B@T.example",
            "--sender",
            "@s.example",
            "--message",
            "again",
        ],
        "",
    );
    site.cli(&[
        "auto-reply",
        "set",
        "--mailbox",
        TARO,
        "--sender",
        "@s.example",
        "--message",
        "x",
    ])
    .exit(65);
    site.cli(&[
        "auto-reply",
        "set",
        "--mailbox",
        TARO,
        "--start",
        "tomorrow",
    ])
    .exit(65);
    let shown = site.one(&["auto-reply", "show", "--mailbox", TARO]);
    assert_eq!(shown["message"], "休みます。\n\n  # またね\n");
    assert_eq!(shown["enabled"], true);
    assert_eq!(
        shown["per_sender"],
        json!([{"senders": ["@s.example", "b@t.example"], "message": "again"}])
    );
    let told = reply(
        &[
            "unset",
            "--sender",
            "@s.example",
            "--sender",
            "nobody@x.example",
        ],
        "",
    );
    assert_eq!(told["missing"], json!(["nobody@x.example"]));
    reply(&["unset", "--sender", "b@t.example"], "");
    reply(&["set", "--no-end"], "");
    reply(&["off"], "");
    assert_eq!(
        text(&site),
        "version: 1\nmailbox: taro@east.example.jp\nnotify:\n  fields: [from, size]\nauto_reply:\n  enabled: false\n  message: |\n    休みます。\n\n      # またね\n"
    );
}

#[test]
fn mailboxes_are_listed_shown_and_set_by_key() {
    let site = Site::new()
        .with_mailbox(
            TARO,
            "aliases: [t@east.example.jp]\nspam: {scan: true} # on\n",
        )
        .with_mailbox(
            "hanako@west.example.jp",
            "reject: {headers: [from_empty]}\n",
        );
    let listed = site.json(&["mailbox", "list"]);
    let on: Vec<&Value> = listed.iter().map(|mailbox| &mailbox["on"]).collect();
    assert_eq!(on, [&json!(["spam"]), &json!(["reject"])]);
    assert_eq!(
        site.json(&["mailbox", "list", "--domain", "west.example.jp"])
            .len(),
        1
    );
    // An alias, and an address with an extension, are their owner's.
    let shown = site.one(&["mailbox", "show", "t"]);
    assert_eq!(
        (&shown["mailbox"], &shown["spam"]["scan"]),
        (&json!(TARO), &json!(true))
    );
    assert!(site.one(&["mailbox", "show", JIRO])["file"].is_null());
    let set = |arguments: &[&str]| edit(&site, &[&["mailbox", "set", "t"], arguments].concat(), "");
    set(&[
        "spam.scan=false",
        "spam.mark_subject=true",
        "timezone=Asia/Tokyo",
    ]);
    set(&[
        "notify.to=a@b.example",
        "notify.to=c@d.example",
        "language=en",
    ]);
    assert_eq!(
        text(&site),
        "version: 1\naliases: [t@east.example.jp]\nspam: {scan: false, mark_subject: true} # on\ntimezone: Asia/Tokyo\nnotify:\n  to: [a@b.example, c@d.example]\nlanguage: en\n"
    );
    let told = set(&["--unset", "notify.to", "--unset", "reject.headers"]);
    assert_eq!(told["set"], json!({"notify.to": null}));
    let before = text(&site);
    for (code, argument) in [
        (64, "reject.subject_contains=x"),
        (64, "spam"),
        (65, "spam.scan=yes"),
        (65, "spam.colour=red"),
        (65, "language=fr"),
        (65, "version=2"),
        (65, "mailbox=other@east.example.jp"),
    ] {
        let done = site.cli(&["mailbox", "set", TARO, argument]);
        assert_eq!(done.code, code, "{argument}: {}", done.stderr);
        assert_eq!(text(&site), before, "{argument}");
    }
    site.write("mailboxes/west.example.jp/bad.yaml", "version: 1\nx: y\n");
    // What `check` refuses is not listed as good.
    site.write("mailboxes/west.example.jp/old.yaml", "version: 2\n");
    let done = site.cli(&["mailbox", "list", "--json"]).exit(78);
    let bad: Vec<Value> = done.json();
    assert_eq!(bad.len(), 4);
    for number in [1, 3] {
        assert_eq!(
            (&bad[number]["mailbox"], &bad[number]["errors"]),
            (&Value::Null, &json!(1))
        );
    }
}

/// Runs `mailbox edit` with a shell script as the editor; `$1` is the copy.
fn with_editor(site: &Site, script: &str) -> Done {
    let editor = site.path("editor");
    fs::write(&editor, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .arg("--config")
        .arg(site.path("sekimori.yaml"))
        .args(["mailbox", "edit", TARO])
        .env("TMPDIR", site.path("mailboxes").parent().unwrap())
        .env("EDITOR", format!("sh {}", editor.display()))
        .env_remove("VISUAL");
    Done::of(&mut command, b"")
}

#[test]
fn an_editor_that_is_not_there_is_a_usage_error_and_leaves_no_copy() {
    let site = Site::new().with_mailbox(TARO, "language: en\n");
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .arg("--config")
        .arg(site.path("sekimori.yaml"))
        .args(["mailbox", "edit", TARO])
        .env("TMPDIR", folder.path())
        .env("EDITOR", "/nonexistent/editor")
        .env_remove("VISUAL");
    let done = Done::of(&mut command, b"").exit(64);
    assert!(
        done.stderr.contains("set VISUAL or EDITOR"),
        "{}",
        done.stderr
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_word_null_is_a_text_where_a_text_is_wanted_and_else_bad_data() {
    let site = Site::new().with_mailbox(TARO, "language: en\n");
    site.cli(&["mailbox", "set", TARO, "spam.mark_subject=null"])
        .success();
    assert!(
        text(&site).contains("mark_subject: \"null\""),
        "{}",
        text(&site)
    );
    let done = site
        .cli(&["mailbox", "set", TARO, "spam.scan=null"])
        .exit(65);
    assert!(done.stderr.contains("error[type]"), "{}", done.stderr);
}

/// What is said to be kept.
fn kept(done: &Done) -> String {
    let (_, path) = done.stderr.split_once("your text is kept in ").unwrap();
    fs::read_to_string(path.trim_end()).unwrap()
}

#[test]
fn an_editor_works_on_a_copy_that_is_never_lost() {
    let site = Site::new().with_mailbox(TARO, "language: en # mine\n");
    let done = with_editor(&site, "stat -c %a \"$1\"; sed -i 's/en/ja/' \"$1\"").success();
    assert!(done.text().starts_with("600\n"), "{}", done.text());
    assert_eq!(text(&site), "version: 1\nlanguage: ja # mine\n");
    let done = with_editor(&site, "true").success();
    assert!(done.text().contains("nothing to change"), "{}", done.text());
    let copies = || {
        let names = files(&site.path(""));
        names
            .into_iter()
            .filter(|path| path.to_string_lossy().contains("sekimori-taro"))
            .count()
    };
    assert_eq!(copies(), 0);
    let before = text(&site);
    let done = with_editor(&site, "echo 'spma: {}' >> \"$1\"").exit(65);
    assert!(
        done.stderr.contains(":3:1: error[unknown-key]"),
        "{}",
        done.stderr
    );
    assert_eq!(kept(&done), format!("{before}spma: {{}}\n"));
    let done = with_editor(&site, "echo '# x' >> \"$1\"; exit 3");
    assert_eq!(kept(&done.exit(75)), format!("{before}# x\n"));
    assert_eq!(text(&site), before);
    // A command in between does not wait for the editor, and neither overwrites the other.
    let script = format!(
        "echo '# x' >> \"$1\"; {PROGRAM} --config {} mailbox set {TARO} spam.scan=true",
        site.path("sekimori.yaml").display()
    );
    let done = with_editor(&site, &script).exit(75);
    assert!(done.stderr.contains("changed meanwhile"), "{}", done.stderr);
    assert_eq!(kept(&done), format!("{before}# x\n"));
    assert_eq!(text(&site), format!("{before}spam:\n  scan: true\n"));
    // A bad file can be mended, and one that is not there be made.
    site.write(FILE, "version: 1\nlangauge: en\n");
    with_editor(&site, "sed -i 's/langauge/language/' \"$1\"").success();
    fs::remove_file(site.path(FILE)).unwrap();
    with_editor(&site, "echo 'language: en' >> \"$1\"").success();
    assert_eq!(
        text(&site),
        "version: 1\nmailbox: taro@east.example.jp\nlanguage: en\n"
    );
}

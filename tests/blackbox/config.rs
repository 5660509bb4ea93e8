//! `config`, `completions` and `man`: what an operator and an editor get.

use crate::harness::{Done, PROGRAM, Site, TARO};
use serde_json::Value;
use std::process::Command;

/// Runs the program without a daemon file.
fn bare(arguments: &[&str]) -> Done {
    let nowhere = ["--config", "/nonexistent/sekimori.yaml"];
    Done::of(Command::new(PROGRAM).args(nowhere).args(arguments), b"")
}

#[test]
fn the_example_passes_check_in_a_fresh_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sekimori.yaml");
    let path = file.to_str().unwrap();
    let check = || {
        let mut check = Command::new(PROGRAM);
        check.args(["--config", path, "check", "--deny-warnings"]);
        Done::of(&mut check, b"").success()
    };
    let example = bare(&["config", "example"]).success().text();
    assert_eq!(
        example,
        bare(&["config", "example", "daemon"]).success().text()
    );
    let object = bare(&["config", "example", "--json"]).success().json();
    assert_eq!(object.len(), 1);
    assert_eq!(object[0]["schema"], "sekimori.example/1");
    assert_eq!(object[0]["text"], example);
    std::fs::write(&file, example).unwrap();
    check();
    let mailbox = folder.path().join("mailboxes/example.jp/taro.yaml");
    std::fs::create_dir_all(mailbox.parent().unwrap()).unwrap();
    std::fs::write(
        &mailbox,
        bare(&["config", "example", "mailbox"]).success().text(),
    )
    .unwrap();
    check();
}

#[test]
fn the_schema_is_json() {
    for file in ["daemon", "mailbox"] {
        let text = bare(&["config", "schema", file]).success().text();
        let schema: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
        assert_eq!(schema["additionalProperties"], false);
        let line = bare(&["--json", "config", "schema", file]).success().text();
        assert_eq!(line.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), schema);
    }
    for arguments in [
        &["config"][..],
        &["config", "schema"],
        &["config", "schema", "portal"],
    ] {
        bare(arguments).exit(64);
    }
}

#[test]
fn show_tells_what_counts_and_where_it_came_from() {
    let site = Site::new().with_mailbox(TARO, "language: en\n");
    let text = site
        .cli(&["config", "show", "--origin", "--mailbox", TARO])
        .success()
        .text();
    assert!(text.contains("language: en  # taro.yaml:"), "{text}");
    assert!(
        text.contains("timezone: Asia/Tokyo  # built-in\n"),
        "{text}"
    );
    assert!(
        !site
            .cli(&["config", "show"])
            .success()
            .text()
            .contains("  # ")
    );
    let lines = site.json(&["config", "show"]);
    assert!(
        lines
            .iter()
            .all(|line| line["schema"] == "sekimori.config/1")
    );
    let retention = lines
        .iter()
        .find(|line| line["key"] == "history.retention")
        .unwrap();
    assert_eq!(
        (&retention["value"], &retention["origin"]),
        (&"7d".into(), &"built-in".into())
    );
    // A bare name and an alias stand for the mailbox, as in the daemon.
    let site = site.with_mailbox("jiro@east.example.jp", "aliases: [j@east.example.jp]\n");
    for name in ["jiro", "j@east.example.jp"] {
        let text = site
            .cli(&["config", "show", "--mailbox", name])
            .success()
            .text();
        assert!(text.contains("mailbox: jiro@east.example.jp\n"), "{text}");
    }
}

#[test]
fn show_says_what_is_wrong() {
    let mut site = Site::new();
    site.cli(&["config", "show", "--mailbox", "taro@elsewhere.example"])
        .exit(67);
    site.cli(&["config", "show", "--mailbox", "@"]).exit(64);
    site.set_mailbox(TARO, "language: fr\nspam: {scan: maybe}\n");
    let done = site.cli(&["config", "show", "--mailbox", TARO]).exit(78);
    assert!(
        done.stderr.contains("scan") && done.stderr.contains("fr"),
        "{}",
        done.stderr
    );
    site.replace(
        "version: 1\n",
        "version: 1\ntrust: {verify: perhaps}\nmetrics: 5\n",
    );
    let done = site.cli(&["config", "show"]).exit(78);
    assert_eq!(done.stderr.matches("error[").count(), 2, "{}", done.stderr);
    bare(&["config", "show"]).exit(66);
}

/// Each command with its own commands, as `--help` lists them.
fn commands(path: &[&str]) -> Vec<String> {
    let help = bare(&[path, &["--help"]].concat()).success().text();
    let Some((_, listed)) = help.split_once("Commands:\n") else {
        return Vec::new();
    };
    let listed = listed.lines().take_while(|line| line.starts_with("  "));
    let names = listed
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The page of a command, without the marks that roff wants at its hyphens. groff is not everywhere;
/// where it is, it finds nothing to say.
fn page(command: &[&str]) -> String {
    let page = bare(&[&["man"], command].concat()).success().text();
    let groff = Command::new("groff").arg("--version").output();
    if groff.is_ok_and(|groff| groff.status.success()) {
        let mut groff = Command::new("groff");
        groff.args(["-man", "-ww", "-z", "-Kutf8"]);
        let done = Done::of(&mut groff, page.as_bytes()).success();
        assert_eq!(done.stderr, "", "{command:?}");
    }
    page.replace("\\-", "-")
}

#[test]
fn each_command_has_a_page_and_is_completed() {
    let top = commands(&[]);
    assert!(top.len() > 8, "{top:?}");
    let program = page(&[]);
    assert!(program.contains(".SH NAME\nsekimori"), "{program}");
    for command in &top {
        let listed = format!("sekimori-{command}(1)");
        assert!(program.contains(&listed), "{command}\n{program}");
        let own = page(&[command]);
        assert!(own.contains(&format!("sekimori {command}")), "{own}");
        for inner in commands(&[command]) {
            let own = page(&[command, &inner]);
            let name = format!("sekimori {command} {inner}");
            assert!(own.contains(&name), "{own}");
        }
    }
    bare(&["man", "nonsense"]).exit(64);
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef sekimori"),
        ("fish", "complete -c sekimori"),
    ] {
        let script = bare(&["completions", shell]).success().text();
        assert!(script.contains(mark), "{shell}");
        for command in &top {
            assert!(script.contains(command.as_str()), "{shell} {command}");
        }
    }
    bare(&["completions", "tcsh"]).exit(64);
}

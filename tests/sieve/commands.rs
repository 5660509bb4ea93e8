//! `sieve export` and `sieve import` as a person calls them. `import/*.sieve` are scripts in the
//! dialects of rule editors, `*.yaml` the settings that they become, `*.notes` the list beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::pigeonhole::Site;

const OWNER: &str = "taro@east.example.jp";

fn sekimori(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sekimori"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// The scripts of `import/`.
pub(crate) fn samples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sieve/import");
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut scripts: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "sieve"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 5, "{scripts:?}");
    scripts
}

/// With `SEKIMORI_WRITE_EXPECTED` the expected files are written, for a look at the difference.
#[test]
fn scripts_become_settings_and_a_list() {
    for script in samples() {
        let name = script.file_name().unwrap().to_str().unwrap();
        let output = sekimori(
            script.parent().unwrap(),
            &["sieve", "import", "--mailbox", OWNER, name],
        );
        assert_eq!(
            output.status.code(),
            Some(0),
            "{name}: {}",
            text(&output.stderr)
        );
        for (extension, found) in [
            ("yaml", text(&output.stdout)),
            ("notes", text(&output.stderr)),
        ] {
            let path = script.with_extension(extension);
            if std::env::var_os("SEKIMORI_WRITE_EXPECTED").is_some() {
                fs::write(&path, &found).unwrap();
            }
            let expected = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(found, expected, "{}", path.display());
        }
    }
}

#[test]
fn samples_are_scripts_and_their_settings_count() {
    let site = Site::new();
    for script in samples() {
        let name = script.file_name().unwrap().to_str().unwrap();
        site.script(name, &fs::read_to_string(&script).unwrap());
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("mailboxes/east.example.jp")).unwrap();
        fs::write(folder.path().join("sekimori.yaml"), "version: 1\n").unwrap();
        fs::copy(
            script.with_extension("yaml"),
            folder.path().join("mailboxes/east.example.jp/taro.yaml"),
        )
        .unwrap();
        let output = sekimori(folder.path(), &["--config", "sekimori.yaml", "check"]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{name}: {}",
            text(&output.stdout)
        );
    }
}

#[test]
fn what_was_not_taken_as_json() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sieve/import");
    let output = sekimori(&folder, &["--json", "sieve", "import", "roundcube.sieve"]);
    assert_eq!(output.status.code(), Some(0));
    let settings: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert_eq!(settings["schema"], "sekimori.sieve_settings/1");
    assert!(
        settings["text"]
            .as_str()
            .unwrap()
            .starts_with("version: 1\n")
    );
    let lines: Vec<Value> = text(&output.stderr)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines
            .iter()
            .all(|line| line["schema"] == "sekimori.sieve_import/1")
    );
    let lists = lines.iter().find(|line| line["line"] == 52).unwrap();
    assert_eq!(lists["kind"], "not_taken");
    assert_eq!(lists["col"], 2);
    let quiet = sekimori(&folder, &["--quiet", "sieve", "import", "roundcube.sieve"]);
    assert_eq!(text(&quiet.stderr), "");
}

#[test]
fn exit_codes_of_import() {
    let folder = tempfile::tempdir().unwrap();
    let check = |content: &[u8], code: i32, stderr: &str| {
        fs::write(folder.path().join("a.sieve"), content).unwrap();
        let output = sekimori(folder.path(), &["sieve", "import", "a.sieve"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(stderr), "{said}");
        assert_eq!(output.stdout.is_empty(), code != 0);
    };
    check(b"", 0, "");
    check(b"require \"fileinto\";", 65, "nothing");
    check(
        b"if header :contains \"subject\" \"ab\" { discard; }",
        0,
        "a.sieve:1:38: differs:",
    );
    check(
        b"if header {\n keep\n}",
        65,
        "a.sieve:3:1: error[sieve]: a `;`",
    );
    check(
        b"keep;\n# \xff\n",
        65,
        "a.sieve:2:3: error[sieve]: not UTF-8",
    );
    check(
        b"fileinto \"Lists\";",
        65,
        "a.sieve:1:1: not taken: there are no folders",
    );
    let missing = sekimori(folder.path(), &["sieve", "import", "none.sieve"]);
    assert_eq!(missing.status.code(), Some(66));
    let wrong = sekimori(
        folder.path(),
        &["sieve", "import", "--mailbox", "taro", "a.sieve"],
    );
    assert_eq!(wrong.status.code(), Some(64));
}

/// A script may hold what would repaint a terminal.
#[test]
fn names_of_rules_reach_a_terminal_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let script = "# rule:[\u{1b}[31mred\u{202e}]\nif body :contains \"x\" { keep; stop; }\nredirect \"a@b.example\";\n";
    fs::write(folder.path().join("a.sieve"), script).unwrap();
    let output = sekimori(folder.path(), &["sieve", "import", "a.sieve"]);
    let said = text(&output.stderr);
    assert!(
        said.contains("red") && !said.contains(['\u{1b}', '\u{202e}']),
        "{said}"
    );
}

/// A site with one mailbox file.
fn exported(mailbox: &str) -> (tempfile::TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("mailboxes/east.example.jp")).unwrap();
    let daemon = "version: 1\nmailboxes: {domains: [east.example.jp], unknown: reject}\n";
    fs::write(folder.path().join("sekimori.yaml"), daemon).unwrap();
    fs::write(
        folder.path().join("mailboxes/east.example.jp/taro.yaml"),
        mailbox,
    )
    .unwrap();
    let output = sekimori(
        folder.path(),
        &[
            "--config",
            "sekimori.yaml",
            "sieve",
            "export",
            "--mailbox",
            OWNER,
        ],
    );
    (folder, output)
}

#[test]
fn export_says_what_differs_with_its_line() {
    let settings = "version: 1\nreject:\n  from_suffixes: |\n    @spam.example\n    本.example\nallow:\n  verified_senders: |\n    bank@example.net\n";
    let (folder, output) = exported(settings);
    let (script, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains("taro.yaml:5: differs: reject.from_suffixes: `本.example`"),
        "{said}"
    );
    assert!(
        said.contains("taro.yaml:8: differs: allow.verified_senders: `bank@example.net`"),
        "{said}"
    );
    assert!(
        script.contains("# differs: taro.yaml:5 reject.from_suffixes: `本.example`"),
        "{script}"
    );
    Site::new().script("exported.sieve", &script);
    let json = sekimori(
        folder.path(),
        &[
            "--json",
            "--config",
            "sekimori.yaml",
            "sieve",
            "export",
            "--mailbox",
            OWNER,
        ],
    );
    let object: Value = serde_json::from_str(&text(&json.stdout)).unwrap();
    assert_eq!(object["schema"], "sekimori.sieve_script/1");
    assert_eq!(object["text"], script);
    let first: Value = serde_json::from_str(text(&json.stderr).lines().next().unwrap()).unwrap();
    assert_eq!(first["schema"], "sekimori.sieve_export/1");
    let nobody = [
        "--config",
        "sekimori.yaml",
        "sieve",
        "export",
        "--mailbox",
        "nobody@east.example.jp",
    ];
    assert_eq!(sekimori(folder.path(), &nobody).status.code(), Some(67));
}

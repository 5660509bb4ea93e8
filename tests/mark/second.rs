//! Python's email package as the second parser (`parse.py`).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Debian's own, so that each machine has the same.
const PYTHON: &str = "/usr/bin/python3";

/// A mail before and after it was marked.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) mark: String,
    pub(crate) old: Vec<u8>,
    pub(crate) new: Vec<u8>,
}

/// What the second parser says of a case.
pub(crate) struct Opinion {
    pub(crate) name: String,
    pub(crate) mark: String,
    /// `present`, `empty` or `missing`: the old Subject.
    pub(crate) subject: String,
    /// Kind and text of each.
    pub(crate) findings: Vec<(String, String)>,
}

/// Asks for all cases at once; an opinion for each, in order.
pub(crate) fn ask(cases: &[Case]) -> Vec<Opinion> {
    assert!(
        Path::new(PYTHON).exists(),
        "{PYTHON} is not installed: tests/run installs what the tests need"
    );
    let folder = tempfile::Builder::new()
        .prefix("sekimori-mark-")
        .tempdir()
        .unwrap();
    let file = |number: usize, kind: &str, octets: &[u8]| -> PathBuf {
        let path = folder.path().join(format!("{number}.{kind}"));
        fs::write(&path, octets).unwrap();
        path
    };
    let mut list = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let line = json!({
            "name": case.name,
            "mark": case.mark,
            "old": file(number, "old", &case.old),
            "new": file(number, "new", &case.new),
        });
        writeln!(list, "{line}").unwrap();
    }
    let answers = run(&list);
    let opinions: Vec<Opinion> = answers.lines().map(opinion).collect();
    assert_eq!(opinions.len(), cases.len());
    opinions
}

fn run(list: &[u8]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mark/parse.py");
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(list).unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let done = Command::new(PYTHON)
        .arg("-I")
        .arg(script)
        .stdin(Stdio::from(input))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{errors}");
    String::from_utf8(done.stdout).unwrap()
}

fn opinion(line: &str) -> Opinion {
    let value: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let finding = |value: &Value| {
        let kind = text(&value[0]);
        (kind, format!("{} ≠ {}", value[1], value[2]))
    };
    Opinion {
        name: text(&value["name"]),
        mark: text(&value["mark"]),
        subject: text(&value["subject"]),
        findings: value["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(finding)
            .collect(),
    }
}

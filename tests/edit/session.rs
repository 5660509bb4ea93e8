//! Edits of mailbox files on the disk: lists, defaults, text files, locks, refusals.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sekimori::config::edit::{Access, EditError, Entries, List, Session, Value, allow_sender};
use sekimori::config::{Config, Directory};
use sekimori::mail::Address;

struct Site {
    folder: tempfile::TempDir,
    config: Config,
}

impl Site {
    fn new(mailboxes: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("version: 1\nmailboxes: {{dir: .{mailboxes}}}\n");
        let config = Config::parse(&text, folder.path()).unwrap().config;
        Self { folder, config }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("y.jp/taro.yaml")
    }

    fn write(&self, text: &str) {
        fs::create_dir_all(self.path().parent().unwrap()).unwrap();
        fs::write(self.path(), text).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn open(&self, access: Access) -> Result<Session<'_>, EditError> {
        Session::open(&self.config, &mailbox(), access)
    }

    fn add(&self, list: List, entries: &[&str]) -> Result<Entries, EditError> {
        let mut session = self.open(Access::Change)?;
        let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
        let added = session.add(list, &entries)?;
        session.save()?;
        Ok(added)
    }

    fn remove(&self, list: List, entries: &[&str]) -> Result<Entries, EditError> {
        let mut session = self.open(Access::Change)?;
        let entries: Vec<String> = entries.iter().map(|e| (*e).to_owned()).collect();
        let removed = session.remove(list, &entries)?;
        session.save()?;
        Ok(removed)
    }

    fn allow(&self, sender: &str) -> Result<bool, EditError> {
        allow_sender(&self.config, &mailbox(), &Address::parse(sender).unwrap())
    }
}

fn mailbox() -> Address {
    Address::parse("taro@y.jp").unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_sender_is_allowed_in_every_style_and_nothing_else_changes() {
    let rows = [
        ("", "allow:\n  senders: |\n    n@x.jp\n"),
        (
            "language: en # why\n",
            "language: en # why\nallow:\n  senders: |\n    n@x.jp\n",
        ),
        (
            "allow:\n  before_reject: true\n",
            "allow:\n  senders: |\n    n@x.jp\n  before_reject: true\n",
        ),
        (
            "allow:\n  senders: |\n    a@x.jp\n    b@x.jp\n\nlanguage: en\n",
            "allow:\n  senders: |\n    a@x.jp\n    b@x.jp\n    n@x.jp\n\nlanguage: en\n",
        ),
        (
            "allow:\n    senders:          # friends\n    - a@x.jp\n    before_reject: false\n",
            "allow:\n    senders:          # friends\n    - a@x.jp\n    - \"n@x.jp\"\n    before_reject: false\n",
        ),
        (
            "allow:\n  senders:\n    - a@x.jp\nspam: {scan: true}\n",
            "allow:\n  senders:\n    - a@x.jp\n    - \"n@x.jp\"\nspam: {scan: true}\n",
        ),
        (
            "allow: {senders: [a@x.jp]}\n",
            "allow: {senders: [a@x.jp, \"n@x.jp\"]}\n",
        ),
        (
            "allow:\n  senders: [a@x.jp]\n",
            "allow:\n  senders: [a@x.jp, \"n@x.jp\"]\n",
        ),
    ];
    let site = Site::new("");
    for (before, after) in rows {
        site.write(&format!("version: 1\n{before}"));
        assert!(site.allow("n@x.jp").unwrap(), "{before}");
        assert_eq!(site.text(), format!("version: 1\n{after}"));
        assert!(!site.allow("n@x.jp").unwrap(), "a second time");
    }
}

#[test]
fn a_first_allowed_sender_does_not_push_out_the_list_of_the_defaults() {
    let site = Site::new(", defaults: {allow: {senders: [\"@z.jp\"]}}");
    assert!(site.allow("n@x.jp").is_err());
    assert!(!site.folder.path().join("y.jp").exists());
    assert!(!site.allow("n@z.jp").unwrap());
}

#[test]
fn a_bad_file_stays_as_it_is() {
    let site = Site::new("");
    for text in [
        "version: 1\nallow:\n  senders_file: friends.txt\n",
        "version: 1\nbroken: [\n",
    ] {
        site.write(text);
        assert!(
            matches!(site.allow("n@x.jp"), Err(EditError::BadFile(_))),
            "{text}"
        );
        assert_eq!(site.text(), text);
    }
    fs::remove_file(site.path()).unwrap();
    assert!(site.allow("n@x.jp").unwrap(), "a file is made");
    assert_eq!(
        site.text(),
        "version: 1\nmailbox: taro@y.jp\nallow:\n  senders: |\n    n@x.jp\n"
    );
}

#[test]
fn an_entry_that_folds_to_one_that_is_there_is_no_news() {
    let site = Site::new("");
    let first = site
        .add(
            List::RejectSubject,
            &["ｱﾀﾞﾙﾄ", "SPAM", "アダルト", "ｓｐａｍ"],
        )
        .unwrap();
    assert_eq!(first.changed, ["ｱﾀﾞﾙﾄ", "SPAM"]);
    assert_eq!(first.unchanged, ["アダルト", "ｓｐａｍ"]);
    let text = site.text();
    let second = site.add(List::RejectSubject, &["アダルト"]).unwrap();
    assert_eq!(second.changed, [""; 0]);
    assert_eq!(site.text(), text);
    let gone = site
        .remove(List::RejectSubject, &["ｽﾊﾟﾑ", "ｱﾀ゛ﾙﾄ"])
        .unwrap();
    assert_eq!(gone.changed, ["ｱﾀﾞﾙﾄ"]);
    assert_eq!(gone.unchanged, ["ｽﾊﾟﾑ"]);
    site.remove(List::RejectSubject, &["spam"]).unwrap();
    assert_eq!(site.text(), "version: 1\nmailbox: taro@y.jp\n");
}

#[test]
fn a_first_list_takes_over_what_the_defaults_have() {
    let site = Site::new(", defaults: {reject: {from_suffixes: [\"@a.jp\", \"@b.jp\"]}}");
    let added = site.add(List::RejectFrom, &["@c.jp", "@B.JP"]).unwrap();
    assert_eq!((added.copied, added.unchanged.len()), (2, 1));
    let head = "version: 1\nmailbox: taro@y.jp\nreject:\n";
    assert_eq!(
        site.text(),
        format!("{head}  from_suffixes: |\n    @a.jp\n    @b.jp\n    @c.jp\n")
    );
    let removed = site
        .remove(List::RejectFrom, &["@a.jp", "@b.jp", "@c.jp"])
        .unwrap();
    assert_eq!(removed.changed.len(), 3);
    // Without a list of its own the mailbox would have that of the defaults again.
    assert_eq!(site.text(), format!("{head}  from_suffixes: []\n"));
    fs::remove_file(site.path()).unwrap();
    let removed = site.remove(List::RejectFrom, &["@a.jp"]).unwrap();
    assert_eq!(removed.copied, 1);
    assert_eq!(
        site.text(),
        format!("{head}  from_suffixes: |\n    @b.jp\n")
    );
}

#[test]
fn the_defaults_text_file_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("list.txt"), "@a.jp\n").unwrap();
    let text =
        "version: 1\nmailboxes: {dir: m, defaults: {reject: {from_suffixes_file: list.txt}}}\n";
    let config = Config::parse(text, folder.path()).unwrap().config;
    let mut session = Session::open(&config, &mailbox(), Access::Change).unwrap();
    let error = session
        .add(List::RejectFrom, &["@b.jp".to_owned()])
        .unwrap_err();
    assert!(error.to_string().contains("list.txt"), "{error}");
}

#[test]
fn the_text_file_of_a_list_is_edited_in_its_place() {
    let site = Site::new("");
    let yaml = "version: 1\nreject: {from_suffixes_file: ../lists/from.txt}\n";
    site.write(yaml);
    let list = site.folder.path().join("lists/from.txt");
    fs::create_dir_all(list.parent().unwrap()).unwrap();
    fs::write(&list, "\u{feff}@a.jp\r\n\r\n@b.jp").unwrap();
    site.add(List::RejectFrom, &["@c.jp", "@A.jp"]).unwrap();
    assert_eq!(
        fs::read_to_string(&list).unwrap(),
        "\u{feff}@a.jp\r\n\r\n@b.jp\r\n@c.jp"
    );
    site.remove(List::RejectFrom, &["@a.jp"]).unwrap();
    assert_eq!(
        fs::read_to_string(&list).unwrap(),
        "\u{feff}\r\n@b.jp\r\n@c.jp"
    );
    assert_eq!(site.text(), yaml);
    assert_eq!(files(list.parent().unwrap()), ["from.txt"]);
}

#[test]
fn nothing_outside_the_folder_of_mailboxes_is_written() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("list.txt");
    fs::write(&target, "@a.jp\n").unwrap();
    let site = Site::new("");
    site.write(&format!(
        "version: 1\nreject: {{from_suffixes_file: \"{}\"}}\n",
        target.display()
    ));
    let outside = |error: EditError| matches!(error, EditError::Outside { .. });
    assert!(outside(site.add(List::RejectFrom, &["@b.jp"]).unwrap_err()));
    // A file that is a link, and a folder that is one.
    fs::write(&target, "version: 1\n").unwrap();
    fs::remove_file(site.path()).unwrap();
    symlink(&target, site.path()).unwrap();
    assert!(outside(site.add(List::RejectFrom, &["@b.jp"]).unwrap_err()));
    fs::remove_dir_all(site.folder.path().join("y.jp")).unwrap();
    symlink(elsewhere.path(), site.folder.path().join("y.jp")).unwrap();
    assert!(outside(site.add(List::RejectFrom, &["@b.jp"]).unwrap_err()));
    assert_eq!(fs::read_to_string(&target).unwrap(), "version: 1\n");
    assert_eq!(files(elsewhere.path()), ["list.txt"]);
}

#[test]
fn a_link_within_the_folder_stays_a_link() {
    let site = Site::new("");
    let shared = site.folder.path().join("shared.yaml");
    fs::write(&shared, "version: 1\n").unwrap();
    fs::create_dir_all(site.path().parent().unwrap()).unwrap();
    symlink("../shared.yaml", site.path()).unwrap();
    site.add(List::RejectFrom, &["@b.jp"]).unwrap();
    assert!(fs::symlink_metadata(site.path()).unwrap().is_symlink());
    assert_eq!(
        fs::read_to_string(&shared).unwrap(),
        "version: 1\nreject:\n  from_suffixes: |\n    @b.jp\n"
    );
}

#[test]
fn the_mode_stays_and_nothing_is_left_beside_the_file() {
    let site = Site::new("");
    site.write("version: 1\n");
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o604)).unwrap();
    // What an edit that was killed leaves.
    fs::write(site.folder.path().join("y.jp/.sekimori.new"), "half").unwrap();
    site.add(List::RejectFrom, &["@b.jp"]).unwrap();
    let mode = fs::metadata(site.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o604);
    assert_eq!(files(&site.folder.path().join("y.jp")), ["taro.yaml"]);
}

#[test]
fn what_would_be_a_mistake_is_not_written() {
    let site = Site::new("");
    site.write("version: 1\n");
    let mut session = site.open(Access::Change).unwrap();
    session
        .set("auto_reply.enabled", Value::Word("true".to_owned()))
        .unwrap();
    let Err(EditError::BadValue(found)) = session.save() else {
        panic!("a reply without a text was written");
    };
    assert_eq!((found[0].id, found[0].line), ("missing", 3));
    assert_eq!(site.text(), "version: 1\n");
}

#[test]
fn a_file_that_an_editor_has_written_meanwhile_is_not_overwritten() {
    let site = Site::new("");
    site.write("version: 1\n");
    let mut session = site.open(Access::Change).unwrap();
    session
        .add(List::RejectFrom, &["@b.jp".to_owned()])
        .unwrap();
    site.write("version: 1\nlanguage: en\n");
    assert!(matches!(session.save(), Err(EditError::Changed(_))));
    assert_eq!(site.text(), "version: 1\nlanguage: en\n");
}

#[test]
fn a_look_takes_no_lock_and_writes_nothing() {
    let site = Site::new(", writable: false");
    assert!(matches!(
        site.open(Access::Change),
        Err(EditError::ReadOnly)
    ));
    let mut session = site.open(Access::Look).unwrap();
    session
        .add(List::RejectFrom, &["@b.jp".to_owned()])
        .unwrap();
    let saved = session.save().unwrap();
    assert_eq!(saved.files.len(), 1);
    assert_eq!(files(site.folder.path()), [""; 0]);
}

/// An edit made the index of aliases read all files again: its temporary file looked like a folder
/// that had gone.
#[test]
fn an_edit_makes_the_daemon_read_one_file_not_all() {
    let site = Site::new("");
    for name in 0..200 {
        let path = site.folder.path().join(format!("y.jp/a{name}.yaml"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "version: 1\n").unwrap();
    }
    let directory = Directory::new(Arc::new(site.config.clone()));
    directory.start_indexing();
    let alias = |name: &str| Address::parse(&format!("{name}@y.jp")).unwrap();
    assert!(
        directory.path_of(&alias("none")).is_none(),
        "waits for the index"
    );
    let before = directory.stats().files_read;
    assert!(before >= 200, "{before}");
    let aliases = Value::List(vec![Value::Text("t@y.jp".to_owned())]);
    let mut session = site.open(Access::Change).unwrap();
    session.set("aliases", aliases).unwrap();
    session.save().unwrap();
    let begun = Instant::now();
    while directory.path_of(&alias("t")).is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never seen");
        std::thread::yield_now();
    }
    let read = directory.stats().files_read - before;
    assert!(read < 100, "{read} files were read");
}

/// A person's editor takes no lock: what it wrote stays, and nothing else is half done.
#[test]
fn of_several_files_none_is_written_when_one_has_changed() {
    let site = Site::new("");
    let text =
        "version: 1\nreject:\n  from_suffixes: [\"@a.jp\"]\n  subject_contains_file: words\n";
    site.write(text);
    let words = site.path().with_file_name("words");
    fs::write(&words, "one\n").unwrap();
    let mut session = site.open(Access::Change).unwrap();
    session.clear(List::RejectFrom).unwrap();
    session.clear(List::RejectSubject).unwrap();
    fs::write(&words, "one\ntwo\n").unwrap();
    let error = session.save().unwrap_err();
    assert!(matches!(error, EditError::Changed(_)), "{error}");
    assert_eq!(site.text(), text);
    assert_eq!(fs::read_to_string(&words).unwrap(), "one\ntwo\n");
}

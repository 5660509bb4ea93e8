use std::fs;
use std::sync::Barrier;
use std::time::Instant;

use super::cache::LATELY;
use super::files::Reading;
use super::*;

/// A folder with a daemon file's text and mailbox files.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a.jp")).unwrap();
        Self { dir }
    }

    fn taro(&self) -> PathBuf {
        self.dir.path().join("a.jp/taro.yaml")
    }

    fn write(&self, text: &str) {
        fs::write(self.taro(), format!("version: 1\n{text}")).unwrap();
    }

    /// Endings in a file of their own, so many that the settings are large.
    fn write_large(&self, name: &str) {
        let entry = |n: u32| format!("@{name}{n:08}.example\n");
        let text: String = (0..8192).map(entry).collect();
        fs::write(self.dir.path().join("a.jp/list.txt"), text).unwrap();
        self.write("reject: {from_suffixes_file: list.txt}\n");
    }

    fn config(&self, more: &str) -> Arc<Config> {
        let text = format!("version: 1\nmailboxes: {{dir: ., domains: [a.jp]}}\n{more}");
        Arc::new(Config::parse(&text, self.dir.path()).unwrap().config)
    }

    fn directory(&self) -> Directory {
        Directory::new(self.config(""))
    }
}

fn taro() -> Address {
    Address::parse("taro@a.jp").unwrap()
}

fn found(directory: &Directory) -> Arc<Mailbox> {
    match directory.lookup(&taro()) {
        Lookup::Found(mailbox) => mailbox,
        other => panic!("{other:?}"),
    }
}

fn first_entry(directory: &Directory) -> Option<String> {
    let hit = found(directory).policy.from_suffixes.entries().next();
    hit.map(|hit| hit.entry)
}

fn becomes(directory: &Directory, expected: Option<&str>) {
    while first_entry(directory).as_deref() != expected {
        std::thread::yield_now();
    }
}

#[test]
fn what_was_looked_up_lately_is_ready() {
    let site = Site::new();
    site.write("");
    for watch in [true, false] {
        let text = format!("version: 1\nmailboxes: {{dir: ., domains: [a.jp], watch: {watch}}}\n");
        let config = Config::parse(&text, site.dir.path()).unwrap().config;
        let directory = Directory::new(Arc::new(config));
        assert!(directory.ready(&taro()).is_none());
        let mailbox = found(&directory);
        let entry = directory.files.lock().get(&site.taro()).unwrap();
        *entry.seen.lock().unwrap() = Some(Instant::now() + LATELY);
        let ready = directory.ready(&Address::parse("Taro@A.JP").unwrap());
        assert!(matches!(ready, Some(Lookup::Found(ready)) if Arc::ptr_eq(&ready, &mailbox)));
        *entry.seen.lock().unwrap() = Some(Instant::now() - LATELY);
        assert_eq!(directory.ready(&taro()).is_none(), watch);
        let stranger = directory.ready(&Address::parse("taro@b.jp").unwrap());
        assert!(matches!(stranger, Some(Lookup::UnknownDomain)));
    }
}

#[test]
fn while_a_changed_file_is_read_the_old_settings_count() {
    let site = Site::new();
    let directory = site.directory();
    site.write("");
    assert_eq!(found(&directory).policy.aliases.len(), 0);
    site.write("aliases: [t@a.jp]\n");
    let reading = Reading::begin(&directory.files, &site.taro()).unwrap();
    assert_eq!(found(&directory).policy.aliases.len(), 0);
    drop(reading);
    assert_eq!(found(&directory).policy.aliases.len(), 1);
    assert!(directory.files.lock().reading.is_empty());
}

#[test]
fn a_file_that_many_need_at_once_is_read_once() {
    let site = Site::new();
    site.write_large("a");
    let text = "version: 1\nmailboxes: {dir: ., watch: false}\n";
    let config = Config::parse(text, site.dir.path()).unwrap().config;
    let directory = Directory::new(Arc::new(config));
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                assert!(first_entry(&directory).is_some());
            });
        }
    });
    assert_eq!(directory.stats().files_read, 1);
}

#[test]
fn a_large_file_is_read_by_itself_and_the_old_settings_count_until_then() {
    let site = Site::new();
    site.write_large("a");
    let directory = site.directory();
    assert_eq!(
        first_entry(&directory).as_deref(),
        Some("@a00000000.example")
    );
    // That it was written just now is over for the thread, too.
    while !directory
        .files
        .lock()
        .get(&site.taro())
        .unwrap()
        .is_current(true)
    {
        std::thread::yield_now();
    }
    let reading = Reading::begin(&directory.files, &site.taro()).unwrap();
    site.write_large("b");
    assert_eq!(
        first_entry(&directory).as_deref(),
        Some("@a00000000.example")
    );
    drop(reading);
    // Nobody asks for it meanwhile.
    let is_new = || {
        let entry = directory.files.lock().get(&site.taro()).unwrap();
        let first = entry.mailbox.policy.from_suffixes.entries().next();
        first.unwrap().entry.starts_with("@b")
    };
    while !is_new() {
        std::thread::yield_now();
    }
    assert!(directory.ready(&taro()).is_some());
    site.write("");
    becomes(&directory, None);
    site.write_large("c");
    becomes(&directory, Some("@c00000000.example"));
    fs::remove_file(site.taro()).unwrap();
    becomes(&directory, None);
    assert!(found(&directory).path.is_none());
}

#[test]
fn a_reload_keeps_what_the_daemon_file_does_not_touch() {
    let site = Site::new();
    site.write("language: en\n");
    let settled = |directory: &Directory| {
        while found(directory).path.is_none()
            || !directory
                .files
                .lock()
                .get(&site.taro())
                .unwrap()
                .is_current(true)
        {
            std::thread::yield_now();
        }
        found(directory)
    };
    let old = site.directory();
    let before = settled(&old);
    let reads = |directory: &Directory| directory.stats().files_read;

    let same = Directory::reloaded(site.config(""), &old);
    assert_eq!(found(&same).generation, before.generation);
    assert!(Arc::ptr_eq(&found(&same).policy, &before.policy));
    let relay = Directory::reloaded(site.config("relay: {host: mta.example}\n"), &same);
    assert!(Arc::ptr_eq(&found(&relay).policy, &before.policy));
    assert_ne!(found(&relay).generation, before.generation);
    let anew = Directory::new(site.config("relay: {host: mta.example}\n"));
    assert_eq!(found(&relay).generation, found(&anew).generation);
    assert_eq!(reads(&relay), 0);

    let limits = "limits: {forwarding_rules: 3}\n";
    let limited = Directory::reloaded(site.config(limits), &relay);
    assert!(limited.ready(&taro()).is_none());
    let now = found(&limited);
    assert!(!Arc::ptr_eq(&now.policy, &before.policy));
    assert_eq!(reads(&limited), 1);

    // A changed file is found changed after a reload.
    let again = Directory::reloaded(site.config(limits), &limited);
    site.write("aliases: [t@a.jp]\n");
    assert_eq!(found(&again).policy.aliases.len(), 1);

    // A domain that was removed is unknown at once.
    let text = "version: 1\nmailboxes: {dir: ., domains: [b.jp]}\n";
    let config = Config::parse(text, site.dir.path()).unwrap().config;
    let moved = Directory::reloaded(Arc::new(config), &again);
    assert!(matches!(moved.lookup(&taro()), Lookup::UnknownDomain));
    assert!(matches!(moved.ready(&taro()), Some(Lookup::UnknownDomain)));
}

#[test]
fn a_reload_lets_large_settings_count_until_they_are_made_anew() {
    let site = Site::new();
    site.write_large("a");
    let old = site.directory();
    let before = found(&old);
    let config = site.config("limits: {forwarding_rules: 3}\n");
    let new = Directory::reloaded(config, &old);
    assert!(new.ready(&taro()).is_some());
    while Arc::ptr_eq(&found(&new).policy, &before.policy) {
        std::thread::yield_now();
    }
    // Whether a scanner is asked is no matter of later.
    let scanner = "scanners: {virus: {engine: clamd, address: 127.0.0.1:3310}}\n";
    let scanned = Directory::reloaded(site.config(scanner), &new);
    let policy = Arc::clone(&found(&new).policy);
    assert!(!Arc::ptr_eq(&found(&scanned).policy, &policy));
}

#[test]
fn the_old_defaults_are_nothing_to_fall_back_to() {
    let site = Site::new();
    site.write("nonsense: true\n");
    let old = site.directory();
    assert_eq!(found(&old).policy.language, crate::policy::Language::Ja);
    let text = "version: 1\nmailboxes: {dir: ., defaults: {language: en}}\n";
    let config = Config::parse(text, site.dir.path()).unwrap().config;
    let new = Directory::reloaded(Arc::new(config), &old);
    assert_eq!(found(&new).policy.language, crate::policy::Language::En);
}

#[test]
fn the_old_list_of_the_defaults_is_nothing_to_fall_back_to() {
    let site = Site::new();
    site.write("nonsense: true\n");
    let list = |entry: &str| fs::write(site.dir.path().join("list.txt"), entry).unwrap();
    let text =
        "version: 1\nmailboxes: {dir: ., defaults: {reject: {from_suffixes_file: list.txt}}}\n";
    let config = || Arc::new(Config::parse(text, site.dir.path()).unwrap().config);
    list("@old.example\n");
    let old = Directory::new(config());
    assert_eq!(first_entry(&old).as_deref(), Some("@old.example"));
    list("@new.example\n");
    let new = Directory::reloaded(config(), &old);
    assert_eq!(first_entry(&new).as_deref(), Some("@new.example"));
}

#[test]
fn a_file_that_is_bad_after_a_reload_keeps_the_name_of_its_old_settings() {
    let site = Site::new();
    site.write("language: en\n");
    let old = site.directory();
    let before = found(&old);
    site.write("nonsense: true\n");
    let new = Directory::reloaded(site.config("limits: {forwarding_rules: 3}\n"), &old);
    assert_eq!(found(&new).generation, before.generation);
    let relay = "limits: {forwarding_rules: 3}\nrelay: {host: mta.example}\n";
    let again = Directory::reloaded(site.config(relay), &new);
    assert_eq!(found(&again).generation, before.generation);
}

#[test]
fn a_mailbox_is_booked_with_about_what_it_takes() {
    let site = Site::new();
    site.write_large("a");
    let directory = site.directory();
    found(&directory);
    let text = fs::metadata(site.dir.path().join("a.jp/list.txt"))
        .unwrap()
        .len();
    let booked = directory.stats().cached_bytes;
    assert!(
        (2 * text..3 * text).contains(&booked),
        "{booked} for {text}"
    );
}

#[test]
fn a_scanner_that_was_switched_on_scans_a_mailbox_whose_file_is_bad() {
    let site = Site::new();
    site.write("language: en\n");
    let old = site.directory();
    assert!(!found(&old).policy.virus);
    site.write("nonsense: true\n");
    let scanner = "scanners: {virus: {engine: clamd, address: 127.0.0.1:3310}}\n";
    let new = Directory::reloaded(site.config(scanner), &old);
    let policy = Arc::clone(&found(&new).policy);
    assert!(policy.virus);
    assert_eq!(policy.language, crate::policy::Language::En);
}

//! Exit codes are those of sysexits.h, and what went wrong is said on stderr.

use std::process::{Command, Stdio};

use crate::harness::{Done, PROGRAM, Site, TARO, mail};

const OFFERS: &str = "reject: {subject_contains: [offer]}\n";

/// Runs a daemon that must not start; its exit code and what it said.
fn refused(site: &Site) -> (Option<i32>, String) {
    let status = site.spawn().wait().unwrap();
    (
        status.code(),
        std::fs::read_to_string(site.path("stderr.log")).unwrap(),
    )
}

#[test]
fn usage_is_64() {
    let site = Site::new();
    for arguments in [
        &["nonsense"][..],
        &["quarantine"],
        &["quarantine", "show"],
        &["check", "--nonsense"],
        &["status", "--color", "blue"],
        &[],
    ] {
        let done = site.cli(arguments);
        assert_eq!(done.code, 64, "{arguments:?}: {}", done.stderr);
    }
    for arguments in [&["--help"][..], &["--version"], &["quarantine", "--help"]] {
        assert!(!site.cli(arguments).success().text().is_empty());
    }
}

#[test]
fn a_missing_daemon_file_is_66() {
    for arguments in [
        &["run"][..],
        &["check"],
        &["status"],
        &["explain", "--mailbox", TARO, "-"],
    ] {
        let done = Done::of(
            Command::new(PROGRAM)
                .args(["--config", "/nonexistent/sekimori.yaml"])
                .args(arguments),
            b"",
        );
        assert_eq!(done.code, 66, "{arguments:?}: {}", done.stderr);
        assert!(
            done.stderr.contains("/nonexistent/sekimori.yaml"),
            "{}",
            done.stderr
        );
    }
}

#[test]
fn the_daemon_file_comes_from_the_environment_too() {
    let site = Site::new();
    let path = site.path("sekimori.yaml");
    let mut child = Command::new(PROGRAM)
        .env("SEKIMORI_CONFIG", &path)
        .arg("check")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn no_daemon_is_69() {
    let site = Site::new();
    for arguments in [
        &["status"][..],
        &["reload", "--wait"],
        &["quarantine", "list"],
        &["quarantine", "release", "01m80r8cznpnz2pq5rpvmvbnn6"],
        &["queue", "list"],
    ] {
        let done = site.cli(arguments);
        assert_eq!(done.code, 69, "{arguments:?}: {}", done.stderr);
    }
    let mut daemon = Site::new().start();
    daemon.kill();
    daemon.cli(&["status"]).exit(69);
}

#[test]
fn a_store_that_another_process_holds_is_78() {
    let daemon = Site::new().start();
    let other = Site::new().with(
        "store: {path: state}",
        &format!("store: {{path: \"{}\"}}", daemon.path("state").display()),
    );
    let (code, told) = refused(&other);
    assert_eq!(code, Some(78), "{told}");
    assert!(
        told.contains("state") && !told.lines().any(|line| line == "ready"),
        "{told}"
    );
    daemon.cli(&["status"]).success();
    assert_eq!(
        daemon
            .give("a@s.example", TARO, &mail("a@friend.example", "x"))
            .verdict(),
        "deliver"
    );
}

#[test]
fn a_port_that_another_process_holds_is_no_start() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let site = Site::new().with(
        "{name: lmtp, protocol: lmtp, listen: \"127.0.0.1:0\"",
        &format!("{{name: lmtp, protocol: lmtp, listen: \"127.0.0.1:{port}\""),
    );
    let (code, told) = refused(&site);
    assert!(code.is_some_and(|code| code != 0), "{told}");
    assert!(told.contains(&port.to_string()), "{told}");
}

#[test]
fn a_folder_without_permission_is_77() {
    if !rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        let site = Site::new().with("store: {path: state}", "store: {path: locked/state}");
        std::fs::create_dir(site.path("locked")).unwrap();
        std::fs::set_permissions(site.path("locked"), std::fs::Permissions::from_mode(0o500))
            .unwrap();
        let (code, told) = refused(&site);
        assert_eq!(code, Some(77), "{told}");
        return;
    }
    // Root may do everything: another account runs the daemon.
    let site = Site::new();
    std::os::unix::fs::chown(site.path(""), Some(65534), Some(65534)).unwrap();
    std::fs::create_dir(site.path("state")).unwrap();
    let done = Done::of(
        Command::new("setpriv")
            .args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                PROGRAM,
                "--config",
            ])
            .arg(site.path("sekimori.yaml"))
            .arg("run"),
        b"",
    );
    if done.stderr.starts_with("setpriv:") {
        eprintln!("not shown: {}", done.stderr);
        return;
    }
    assert_eq!(done.code, 77, "{}", done.stderr);
    assert!(done.stderr.contains("state"), "{}", done.stderr);
}

#[test]
fn a_file_where_the_store_should_be_is_said() {
    let site = Site::new();
    site.write("state", "not a folder");
    let (code, told) = refused(&site);
    assert!(code == Some(74) || code == Some(78), "{code:?} {told}");
    assert!(told.contains("state"), "{told}");
}

#[test]
fn a_full_disk_puts_mail_off_and_does_not_stop_a_start() {
    let site = Site::new()
        .with_mailbox(TARO, OFFERS)
        .with("store: {path: state}", "store: {path: small/state}");
    std::fs::create_dir(site.path("small")).unwrap();
    let Some(mount) = Mount::tmpfs(&site.path("small"), "80m") else {
        eprintln!("not shown: a small file system cannot be mounted here");
        return;
    };
    let mut daemon = site.start();
    assert!(
        daemon
            .give("a@s.example", TARO, &mail("a@friend.example", "offer 1"))
            .verdict()
            .starts_with("quarantine")
    );
    mount.fill();
    let mut session = daemon.lmtp();
    session.expect("LHLO mta.example.net", "250");
    let reply = session.command("MAIL FROM:<a@s.example>");
    assert!(reply.starts_with("452 4.3.1"), "{reply}");
    drop(session);
    assert_eq!(daemon.quarantine().len(), 1);
    daemon.kill();
    daemon.start_again();
    assert_eq!(daemon.quarantine().len(), 1);
    mount.empty();
    assert!(
        daemon
            .give("a@s.example", TARO, &mail("a@friend.example", "offer 2"))
            .verdict()
            .starts_with("quarantine")
    );
    daemon.kill();
}

#[test]
fn a_broken_pipe_is_no_error() {
    let site = Site::new();
    let mut child = Command::new(PROGRAM)
        .arg("--help")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert!(
        !String::from_utf8_lossy(&done.stderr).contains("panick"),
        "{site:?}",
        site = site.path("")
    );
}

/// A small file system on a folder, unmounted with the value.
struct Mount(std::path::PathBuf);

impl Mount {
    fn tmpfs(folder: &std::path::Path, size: &str) -> Option<Self> {
        let status = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=0755"),
                "tmpfs",
            ])
            .arg(folder)
            .stderr(Stdio::null())
            .status();
        status
            .is_ok_and(|status| status.success())
            .then(|| Self(folder.to_owned()))
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 65536]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_second_daemon_on_the_same_settings_leaves_the_first_alone() {
    let daemon = Site::new().start();
    let status = Command::new(PROGRAM)
        .arg("--config")
        .arg(daemon.path("sekimori.yaml"))
        .arg("run")
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(78));
    daemon.cli(&["status"]).success();
    let mut local = daemon.local();
    local.expect("LHLO mta.example.net", "250");
    daemon.cli(&["store", "verify"]).success();
}

#[test]
fn the_control_socket_has_its_mode_and_knows_its_ways() {
    use std::os::unix::fs::PermissionsExt;
    let daemon = Site::new().start();
    let mode = std::fs::metadata(daemon.path("control.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    for (method, path, status) in [
        ("GET", "/v1/nothing", 404),
        ("GET", "/", 404),
        ("GET", "/v1/quarantine?nonsense=1", 400),
        ("POST", "/v1/status", 405),
        ("GET", "/v1/quarantine/..%2f..%2fetc%2fpasswd", 404),
    ] {
        let (found, body) = crate::http::request(&daemon, method, path, "");
        let body = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(found, status, "{method} {path}: {body}");
    }
}

#[test]
fn quiet_says_only_what_was_asked() {
    let site = Site::new();
    assert!(site.cli(&["--quiet", "check"]).success().text().is_empty());
    let daemon = site.start();
    assert!(
        daemon
            .cli(&["reload", "--wait", "--quiet"])
            .success()
            .text()
            .is_empty()
    );
    assert!(
        daemon
            .cli(&["quarantine", "list"])
            .success()
            .text()
            .is_empty()
    );
}

#[test]
fn a_hundred_thousand_mailbox_files_start_as_fast_as_ten() {
    let time = |count: usize| {
        let site = Site::new();
        let folder = site.path("mailboxes/east.example.jp");
        std::fs::create_dir_all(&folder).unwrap();
        for n in 0..count {
            let settings = format!("version: 1\nreject: {{subject_contains: [offer {n}]}}\n");
            std::fs::write(folder.join(format!("user{n}.yaml")), settings).unwrap();
        }
        let begun = std::time::Instant::now();
        let daemon = site.start();
        let taken = begun.elapsed();
        let last = format!("user{}@east.example.jp", count - 1);
        let subject = format!("Offer {}", count - 1);
        let answer = daemon.give("a@s.example", &last, &mail("a@friend.example", &subject));
        assert_eq!(answer.verdict(), "quarantine/reject.subject_contains");
        taken
    };
    let (few, many) = (time(10), time(100_000));
    assert!(
        many < few * 3 + std::time::Duration::from_millis(500),
        "{few:?} {many:?}"
    );
}

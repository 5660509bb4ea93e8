//! An infected octet leaves by no road.

use crate::clamd::Clamd;
use crate::harness::{TARO, crlf, eventually};
use crate::mails::{self, file_part, forwarded, mixed, multipart, part, text_part};
use crate::scene::{Plan, SENDER, Scene, clamd};
use crate::zip;

const EVERYTHING: &str = "\
language: en
virus: {scan: true}
forwarding:
  mode: all
  all: {to: [home@else.example, office@else.example], keep_copy: true}
notify: {to: [mobile@else.example], fields: [from, to, subject, attachment, size]}
auto_reply: {enabled: true, subject: \"Auto: %{subject}\", message: I am away.}
";

fn scene(clamd_port: u16, settings: &str) -> Scene {
    Plan::new()
        .virus(&clamd(clamd_port, ""))
        .mailbox(TARO, settings)
        .start()
}

/// Every mail that went anywhere, by where it was seen.
fn everything(scene: &Scene) -> Vec<(String, Vec<u8>)> {
    scene.await_empty_queue();
    let kept = scene
        .mailbox(TARO)
        .into_iter()
        .map(|mail| ("Maildir".to_owned(), mail));
    let sent = scene
        .relay
        .mails()
        .into_iter()
        .map(|mail| (mail.recipients.join(" "), mail.data));
    kept.chain(sent).collect()
}

/// Places where a virus may hide from whoever takes a mail apart in another way than clamd: name, mail.
fn infected_mails() -> Vec<(&'static str, Vec<u8>)> {
    let ours = str::from_utf8(mails::OURS).unwrap();
    let archive = zip::stored("a.com", &mails::eicar());
    let eicar = || file_part("a.com", &mails::eicar());
    let clean = || text_part("clean");
    let inner = String::from_utf8(mails::infected()).unwrap();
    let with = |body: String| crlf(&format!("{}{body}", mails::head("x")));
    let thousand: Vec<String> = (0..1100).map(|_| clean()).chain([eicar()]).collect();
    let deep = (0..16).fold(eicar(), |within, level| {
        multipart(&format!("b{level}"), &[clean(), within])
    });
    let mails_deep = (0..80).fold(eicar(), |within, _| forwarded(&[within]));
    vec![
        ("file", mails::infected()),
        ("archive in a mail", mails::infected_deep()),
        ("text alone", mails::text("nothing else", ours)),
        ("Subject", mails::text(&format!("see {ours}"), "hello")),
        (
            "another field",
            [format!("X-Odd: {ours}\r\n").as_bytes(), &mails::ham()].concat(),
        ),
        (
            "first line",
            [format!("{ours}\r\n").as_bytes(), &mails::ham()].concat(),
        ),
        (
            "text and archive",
            mixed(&[text_part(ours), file_part("a.zip", &archive)]),
        ),
        (
            "mail in a mail in a mail",
            mixed(&[
                clean(),
                forwarded(&[clean(), forwarded(&[file_part("a.zip", &archive)])]),
            ]),
        ),
        (
            "field of a part",
            mixed(&[
                clean(),
                part(&format!("Content-Type: text/plain\nX-Odd: {ours}"), "hello"),
            ]),
        ),
        (
            "name of a file",
            mixed(&[clean(), file_part(ours, b"hello")]),
        ),
        (
            "preamble",
            with(multipart("b", &[clean()]).replacen("--b", &format!("{ours}\n--b"), 1)),
        ),
        (
            "epilogue",
            with(format!("{}{ours}\n", multipart("b", &[clean()]))),
        ),
        ("boundary", with(multipart(ours, &[clean()]))),
        (
            "never closed",
            with(multipart("b", &[clean(), eicar()]).replace("--b--\n", "")),
        ),
        (
            "the same boundary within",
            with(multipart(
                "b",
                &[clean(), multipart("b", &[clean(), eicar()])],
            )),
        ),
        (
            "no boundary named",
            with(multipart("b", &[clean(), eicar()]).replacen("; boundary=\"b\"", "", 1)),
        ),
        (
            "two boundaries named",
            with(multipart("b", &[eicar()]).replacen("; boundary", "; boundary=c; boundary", 1)),
        ),
        (
            "mail in base64",
            mixed(&[part(
                "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64",
                &in_base64(inner.as_bytes()),
            )]),
        ),
        (
            "mail as a file",
            mixed(&[clean(), file_part("old.eml", inner.as_bytes())]),
        ),
        (
            "mail as a text",
            mixed(&[part("Content-Type: text/plain", &inner)]),
        ),
        (
            "encoding of a multipart",
            with(multipart("b", &[eicar()]).replacen(
                "; boundary=\"b\"",
                "; boundary=\"b\"\nContent-Transfer-Encoding: base64",
                1,
            )),
        ),
        (
            "encoding in other letters",
            mixed(&[clean(), eicar().replace("base64", "BASE64 (really)")]),
        ),
        (
            "encoding named twice",
            mixed(&[
                clean(),
                eicar().replace("\n\n", "\nContent-Transfer-Encoding: 7bit\n\n"),
            ]),
        ),
        (
            "base64 with junk",
            mixed(&[clean(), eicar().replace("WDVP", "W D\n!V\tP")]),
        ),
        (
            "type of a picture",
            mixed(&[
                clean(),
                eicar().replace("application/octet-stream", "image/png"),
            ]),
        ),
        (
            "quoted-printable file",
            mixed(&[
                clean(),
                part(
                    "Content-Type: application/octet-stream\nContent-Transfer-Encoding: quoted-printable",
                    &quoted(&mails::eicar()),
                ),
            ]),
        ),
        (
            "uuencoded text",
            with(format!(
                "Content-Type: text/plain\n\nbegin 644 a.com\n{}`\nend\n",
                uuencoded(&mails::eicar())
            )),
        ),
        ("more parts than we look at", mixed(&thousand)),
        ("eighty mails deep", mixed(&[mails_deep])),
        ("sixteen multiparts deep", with(deep)),
        (
            "LF in the boundary's line",
            with(multipart("b", &[clean(), eicar()]).replace("--b\n", "--b \t\n")),
        ),
        (
            "no MIME-Version",
            with(multipart("b", &[clean(), eicar()])).strip_mime_version(),
        ),
    ]
}

trait Old {
    fn strip_mime_version(self) -> Self;
}

impl Old for Vec<u8> {
    fn strip_mime_version(self) -> Self {
        let text = String::from_utf8(self).unwrap();
        text.replace("MIME-Version: 1.0\r\n", "").into_bytes()
    }
}

fn in_base64(octets: &[u8]) -> String {
    let part = file_part("x", octets);
    part.split_once("\n\n").unwrap().1.to_owned()
}

fn quoted(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("={octet:02X}")).collect()
}

fn uuencoded(octets: &[u8]) -> String {
    let six = |value: u8| char::from(if value == 0 { b'`' } else { value + 32 });
    let line = |line: &[u8]| {
        let threes = line.chunks(3).flat_map(|three| {
            let [a, b, c] = [0, 1, 2].map(|at| three.get(at).copied().unwrap_or(0));
            [
                a >> 2,
                (a & 3) << 4 | b >> 4,
                (b & 15) << 2 | c >> 6,
                c & 63,
            ]
            .map(six)
        });
        let length = six(u8::try_from(line.len()).unwrap());
        format!("{length}{}\n", threes.collect::<String>())
    };
    octets.chunks(45).map(line).collect()
}

#[test]
fn nothing_infected_goes_out_and_the_sender_hears_nothing() {
    let engine = Clamd::start();
    for keep in ["true", "false"] {
        let settings = EVERYTHING.replace("keep_copy: true", &format!("keep_copy: {keep}"));
        let scene = scene(engine.port, &settings);
        for (name, raw) in infected_mails() {
            let seen = [
                b"Received: from a by b; Sun, 22 Nov 2026 09:00:00 +0900\r\n",
                raw.as_slice(),
            ]
            .concat();
            assert!(
                engine.finds(&seen).is_some(),
                "{name}: clamd itself sees it"
            );
            let answer = scene.taro(&raw);
            assert_eq!(answer.verdict(), "replace/virus", "{name}: {}", answer.0);
        }
        let found = everything(&scene);
        for (road, mail) in &found {
            assert_eq!(
                engine.finds(mail),
                None,
                "{road}: {}",
                String::from_utf8_lossy(mail)
            );
        }
        assert!(scene.relay.mails_to(SENDER).is_empty());
        let reports = found.iter().filter(|(road, _)| road == "Maildir").count();
        assert_eq!(reports, infected_mails().len(), "a report for each");
        // The roads were open.
        let clean = mails::ham();
        scene.taro(&clean);
        scene.relay.await_mail(SENDER);
        let cleaned = found
            .iter()
            .filter(|(road, _)| road == "home@else.example")
            .count();
        eventually("the forward of a clean mail", || {
            let forwarded = scene.relay.mails_to("home@else.example").len();
            (forwarded == cleaned + 1).then_some(())
        });
    }
}

//! An infected octet leaves by no road.

use crate::clamd::Clamd;
use crate::harness::TARO;
use crate::mails::{self, file_part, forwarded, mixed, text_part};
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

fn infected_mails() -> Vec<Vec<u8>> {
    let ours = str::from_utf8(mails::OURS).unwrap();
    let archive = zip::stored("a.com", &mails::eicar());
    vec![
        mails::infected(),
        mails::infected_deep(),
        mails::text("nothing else", ours),
        mails::text(&format!("in the subject: {ours}"), "hello"),
        mixed(&[text_part(ours), file_part("a.zip", &archive)]),
        mixed(&[
            text_part("clean"),
            forwarded(&[
                text_part("clean"),
                forwarded(&[file_part("a.zip", &archive)]),
            ]),
        ]),
        [format!("X-Odd: {ours}\r\n").as_bytes(), &mails::ham()].concat(),
    ]
}

#[test]
fn nothing_infected_goes_out_and_the_sender_hears_nothing() {
    let engine = Clamd::start();
    for keep in ["true", "false"] {
        let settings = EVERYTHING.replace("keep_copy: true", &format!("keep_copy: {keep}"));
        let scene = scene(engine.port, &settings);
        for raw in infected_mails() {
            assert!(engine.finds(&raw).is_some());
            let answer = scene.taro(&raw);
            assert_eq!(answer.verdict(), "replace/virus", "{}", answer.0);
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
        assert_eq!(scene.relay.mails_to("home@else.example").len(), {
            let cleaned = found
                .iter()
                .filter(|(road, _)| road == "home@else.example")
                .count();
            cleaned + 1
        });
    }
}

//! How Pigeonhole reads a mail: the facts that a script can look at.

use sekimori::mail::fold::{fold, fold_address};
use sekimori::mail::{Address, FromAddress, FromField, Message, SubjectField, SubjectText};
use sekimori::policy::{ForwardRule, Forwarding, Policy, Redirect};
use sekimori::sieve::export::{Settings, export};

use crate::pigeonhole::Site;
use crate::settings::OWNER;

/// One mail's facts.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) from: FromField,
    pub(crate) subject: SubjectField,
    pub(crate) attachment: bool,
}

impl Facts {
    /// Our own.
    pub(crate) fn ours(message: &Message) -> Self {
        Self {
            from: message.from.clone(),
            subject: message.subject.clone(),
            attachment: message.attachment,
        }
    }

    /// What Pigeonhole reads in the mail in that file.
    pub(crate) fn theirs(site: &Site, mail: &std::path::Path) -> Self {
        let script = site.path("facts.sieve");
        if !script.exists() {
            site.script("facts.sieve", &questions());
        }
        let options = ["-t", "-", "-Tlevel=matching", "-f", "a@b.example"];
        let run = site.run("sieve-test", &options, &[&script, mail]);
        let answers: Vec<&str> = run
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("info: DEBUG: ")?.strip_suffix('.'))
            .collect();
        let said = |word: &str| answers.contains(&word);
        let texts = answers.iter().filter_map(|line| line.strip_prefix("S:"));
        let subject = match (said("subject"), said("subject-text")) {
            (false, _) => SubjectField::Missing,
            (true, false) => SubjectField::Empty,
            (true, true) => SubjectField::Text(texts.map(subject_text).collect()),
        };
        let addresses = addresses(&run.stdout);
        let from = match (said("from"), said("from-text")) {
            (false, _) => FromField::Missing,
            (true, false) => FromField::Empty,
            (true, true) if addresses.is_empty() => FromField::EmptyAddress,
            (true, true) => FromField::Addresses(addresses),
        };
        Self {
            from,
            subject,
            attachment: said("attachment"),
        }
    }
}

fn subject_text(text: &str) -> SubjectText {
    SubjectText {
        decoded: text.to_owned(),
        folded: fold(text),
    }
}

/// What the address test of the trace compared, as far as it has the shape of an address.
fn addresses(trace: &str) -> Vec<FromAddress> {
    let test = trace
        .lines()
        .skip_while(|line| !line.ends_with(": address test"));
    let test = test.take_while(|line| !line.contains("finishing match"));
    let values = test.filter_map(|line| {
        let (_, value) = line.split_once(": ")?;
        value
            .trim()
            .strip_prefix("matching value `")?
            .strip_suffix('\'')
    });
    let shaped = values.filter(|text| {
        text.rsplit_once('@')
            .is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
    });
    shaped
        .map(|text| FromAddress {
            text: text.to_owned(),
            folded: fold_address(text),
        })
        .collect()
}

fn questions() -> String {
    let mut text = String::from(
        "require [\"vnd.dovecot.debug\", \"variables\", \"index\", \"mime\", \"foreverypart\"];\n\
         if exists \"from\" { debug_log \"from\"; }\n\
         if header :matches \"from\" \"?*\" { debug_log \"from-text\"; }\n\
         if exists \"subject\" { debug_log \"subject\"; }\n\
         if header :matches \"subject\" \"?*\" { debug_log \"subject-text\"; }\n\
         if address :all :is \"from\" \"?\" { keep; }\n",
    );
    for index in 1..5 {
        text.push_str(&format!(
            "if header :index {index} :matches \"subject\" \"*\" {{ debug_log \"S:${{1}}\"; }}\n"
        ));
    }
    text.push_str(&attachment());
    text.push_str("if string :is \"${attachment}\" \"yes\" { debug_log \"attachment\"; }\n");
    text
}

/// The part of an exported script that looks for attachments.
fn attachment() -> String {
    let mut policy = Policy::new(Address::parse(OWNER).unwrap());
    policy.forwarding = Forwarding::Rules(vec![ForwardRule {
        paused: false,
        any: false,
        subject_contains: None,
        from_suffixes: None,
        attachment: Some(true),
        size: None,
        redirect: Redirect {
            to: vec![Address::parse("a@b.example").unwrap()],
            keep_copy: true,
        },
        origin: sekimori::policy::Origin {
            file: "x".into(),
            line: 1,
        },
    }]);
    let mut script = export(&Settings {
        policy: &policy,
        virus: None,
        spam: None,
    })
    .script;
    script.commands.retain(|node| node.name == "foreverypart");
    assert_eq!(script.commands.len(), 1);
    script.to_string()
}

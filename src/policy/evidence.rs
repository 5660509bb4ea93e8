//! What of a mail an entry matched, as the mail has it: the address of the header From, the stretch
//! of the Subject. It is looked for after the decision, and only where an entry decided.

use super::{AllowSet, Hit, Origin, Pattern, Stage, Step, SubstringSet, SuffixSet};
use crate::mail::fold::fold;
use crate::mail::{FromAddress, FromField, Message, SubjectField, locate};

/// The text that the entry of a step matched; `None` for a step without an entry and for stages that
/// look at neither From nor Subject.
pub fn matched<'a>(step: &Step, message: &'a Message) -> Option<&'a str> {
    let hit = step.hit.as_ref()?;
    match step.stage {
        Stage::RejectFromSuffixes => ending(hit, message),
        Stage::RejectSubjectContains => stretch(hit, message),
        Stage::Allow => allowed(hit, message),
        // A rule names the entry of its Subject condition before that of its From condition, and
        // itself where neither decided.
        Stage::Forwarding if !hit.entry.starts_with("forwarding.") => {
            stretch(hit, message).or_else(|| ending(hit, message))
        }
        _ => None,
    }
}

fn stretch<'a>(hit: &Hit, message: &'a Message) -> Option<&'a str> {
    let SubjectField::Text(texts) = &message.subject else {
        return None;
    };
    let entry = SubstringSet::build(pattern(hit));
    let text = texts
        .iter()
        .find(|text| entry.find(&text.folded).is_some())?;
    locate::stretch(&text.decoded, &fold(&hit.entry))
}

fn ending<'a>(hit: &Hit, message: &'a Message) -> Option<&'a str> {
    let entry = SuffixSet::build(pattern(hit));
    address(message, |address| entry.find(&address.folded).is_some())
}

fn allowed<'a>(hit: &Hit, message: &'a Message) -> Option<&'a str> {
    let entry = AllowSet::build(pattern(hit));
    address(message, |address| entry.find(&address.folded).is_some())
}

fn address(message: &Message, matches: impl Fn(&FromAddress) -> bool) -> Option<&str> {
    let FromField::Addresses(addresses) = &message.from else {
        return None;
    };
    let found = addresses.iter().find(|address| matches(address))?;
    Some(&found.text)
}

fn pattern(hit: &Hit) -> Option<Pattern> {
    Some(Pattern {
        text: hit.entry.clone(),
        origin: hit.origin.clone().unwrap_or(Origin {
            file: "".into(),
            line: 1,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Bounds;
    use crate::policy::Outcome;

    #[test]
    fn what_the_mail_has() {
        let mail = "From: A <ab@c.example>, B <B@C.Example>, x@sub.shop.example\r\n\
                    Subject: hello\r\nSubject: =?utf-8?B?772x776A776e776Z776E?= !\r\n\r\n";
        let message = Message::parse(mail.as_bytes(), &Bounds::default());
        let rows = [
            (Stage::RejectFromSuffixes, "c.example", Some("ab@c.example")),
            (
                Stage::RejectFromSuffixes,
                ".SHOP.example",
                Some("x@sub.shop.example"),
            ),
            (Stage::RejectSubjectContains, "アダルト", Some("ｱﾀﾞﾙﾄ")),
            (Stage::Allow, "b@c.example", Some("B@c.example")),
            (Stage::Allow, "@nobody.example", None),
            (Stage::Forwarding, "HELL", Some("hell")),
            (
                Stage::Forwarding,
                "@sub.shop.example",
                Some("x@sub.shop.example"),
            ),
            (Stage::Forwarding, "forwarding.rules[0]", None),
            (Stage::RejectHeaders, "from_empty", None),
            (Stage::Spam, "spam", None),
        ];
        for (stage, entry, expected) in rows {
            let hit = Hit {
                entry: entry.to_owned(),
                origin: None,
            };
            let step = Step {
                stage,
                outcome: Outcome::Match,
                hit: Some(hit),
            };
            let found = matched(&step, &message);
            // The domain is read in lower case.
            let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
            assert!(
                found.is_some() == expected.is_some()
                    && found.zip(expected).is_none_or(|(a, b)| same(a, b)),
                "{stage:?} {entry}: {found:?}"
            );
        }
        let step = Step {
            stage: Stage::Allow,
            outcome: Outcome::Pass,
            hit: None,
        };
        assert_eq!(matched(&step, &message), None);
    }
}

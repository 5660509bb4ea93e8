//! What the JSON of rspamd says. Only what we keep is built in memory, whatever it holds besides.

use std::fmt;

use hyper::StatusCode;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::scan::error::name;
use crate::scan::wire::Fault;
use crate::scan::{Learned, MAX_SYMBOLS, SpamFinding, Symbol};

/// Actions that call a mail spam. `soft reject` and `greylist` put it off, others are the site's
/// own.
const SPAM: &[&str] = &["add header", "rewrite subject", "reject"];

#[derive(Deserialize)]
struct Check {
    score: f64,
    /// `null` or not there where no action has such a limit.
    required_score: Option<f64>,
    action: String,
    #[serde(default)]
    symbols: Symbols,
}

#[derive(Deserialize)]
struct Failure {
    error: String,
}

#[derive(Deserialize)]
struct Success {
    success: bool,
}

/// The answer to `/checkv2`; `server` is its `Server` header.
///
/// # Errors
/// What is no such answer.
pub(in crate::scan) fn finding(json: &[u8], server: Option<&str>) -> Result<SpamFinding, Fault> {
    let check: Check = serde_json::from_slice(json)
        .map_err(|_| Fault::Nonsense("it is no JSON with score, required_score and action"))?;
    let required = check.required_score.unwrap_or(0.0);
    if !check.score.is_finite() || !required.is_finite() {
        return Err(Fault::Nonsense("its score is no number"));
    }
    Ok(SpamFinding {
        engine: "rspamd",
        version: server.map(str::to_owned),
        spam: SPAM.contains(&check.action.as_str()),
        score: check.score,
        required,
        action: Some(name(check.action.as_bytes())),
        symbols: check.symbols.0,
    })
}

/// What a status other than 200 means: the engine's own words, or no rspamd at all.
pub(in crate::scan) fn error(status: StatusCode, body: &[u8]) -> Fault {
    serde_json::from_slice(body).map_or(
        Fault::Nonsense("its status is an error, and it does not say why"),
        |failure: Failure| {
            Fault::Refused(format!("{}: {}", status.as_u16(), failure.error).into_bytes())
        },
    )
}

/// The answer to `/learnham`. "Already learned" is 208, in 3.4 a 404 with these words.
///
/// # Errors
/// Why it did not learn.
pub(super) fn learned(status: StatusCode, body: &[u8]) -> Result<Learned, Fault> {
    match status {
        StatusCode::OK => serde_json::from_slice(body)
            .ok()
            .filter(|answer: &Success| answer.success)
            .map(|_| Learned::New)
            .ok_or(Fault::Nonsense("it is no JSON with success")),
        StatusCode::ALREADY_REPORTED => Ok(Learned::Already),
        _ => match error(status, body) {
            Fault::Refused(words) if memchr::memmem::find(&words, b"already learned").is_some() => {
                Ok(Learned::Already)
            }
            fault => Err(fault),
        },
    }
}

/// The first [`MAX_SYMBOLS`] of the symbols.
#[derive(Default)]
struct Symbols(Vec<Symbol>);

#[derive(Deserialize)]
struct Points {
    score: Option<f64>,
}

impl<'de> Deserialize<'de> for Symbols {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Symbols;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of symbols")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Symbols, A::Error> {
                let mut symbols = Vec::new();
                while symbols.len() < MAX_SYMBOLS {
                    let Some((name, points)) = map.next_entry::<String, Points>()? else {
                        return Ok(Symbols(symbols));
                    };
                    symbols.extend(Symbol::new(&name, points.score));
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Symbols(symbols))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GTUBE: &str = r#"{"is_skipped":true,"score":15.0,"required_score":15.0,"action":"reject","symbols":{"GTUBE":{"name":"GTUBE","score":0.0,"metric_score":0.0}},"messages":{"smtp_message":"Gtube pattern"},"message-id":"1@b","time_real":0.073627}"#;

    #[test]
    fn the_action_is_its_word() {
        let rows = [
            ("add header", true),
            ("rewrite subject", true),
            ("reject", true),
            ("soft reject", false),
            ("greylist", false),
            ("no action", false),
            ("discard", false),
            ("Reject", false),
            ("", false),
        ];
        for (action, spam) in rows {
            let json = format!(r#"{{"score":7.25,"required_score":15,"action":"{action}"}}"#);
            let finding = finding(json.as_bytes(), Some("rspamd/3.4")).unwrap();
            assert_eq!((finding.spam, finding.score), (spam, 7.25), "{action}");
            assert_eq!(finding.required, 15.0);
            assert_eq!(finding.action.as_deref(), Some(action));
            assert_eq!(finding.version.as_deref(), Some("rspamd/3.4"));
        }
    }

    #[test]
    fn what_counts_as_an_answer() {
        let gtube = finding(GTUBE.as_bytes(), None).unwrap();
        assert!(gtube.spam);
        // What we do not keep may be no UTF-8.
        let raw = b"{\"message-id\":\"\xff\",\"symbols\":{\"A\":{\"options\":[\"\xff\"]}},\"score\":1,\"action\":\"reject\"}";
        assert!(finding(raw, None).unwrap().spam);
        let names: Vec<&str> = gtube.symbols.iter().map(|symbol| &*symbol.name).collect();
        assert_eq!(names, ["GTUBE"]);
        let rows = [
            (
                r#"{"score":-0.5,"required_score":null,"action":"no action"}"#,
                true,
            ),
            (r#"{"score":0,"action":"no action","symbols":{}}"#, true),
            (r#"{"score":0,"action":"x","symbols":{"A":{}}}"#, true),
            (
                r#"{"score":0,"action":"x","symbols":{"A":{"score":null}}}"#,
                true,
            ),
            (r#" {"score":0,"action":"x"} "#, true),
            (r#"{"score":"7","action":"x"}"#, false),
            (r#"{"score":null,"action":"x"}"#, false),
            (r#"{"score":1e999,"action":"x"}"#, false),
            (r#"{"score":NaN,"action":"x"}"#, false),
            (r#"{"score":0,"required_score":"x","action":"x"}"#, false),
            (r#"{"score":0}"#, false),
            (r#"{"action":"x"}"#, false),
            (r#"{"score":0,"score":1,"action":"x"}"#, false),
            (r#"{"score":0,"action":"x","symbols":[]}"#, false),
            (r#"{"score":0,"action":"x","symbols":{"A":1}}"#, false),
            (r#"{"score":0,"action":"x"}{}"#, false),
            (r#"{"score":0,"action":"x""#, false),
            ("[]", false),
            ("", false),
            ("OK", false),
        ];
        for (json, good) in rows {
            assert_eq!(finding(json.as_bytes(), None).is_ok(), good, "{json}");
        }
    }

    #[test]
    fn symbols_are_printable_and_few() {
        let many: Vec<String> = (0..1000)
            .map(|n| format!(r#""S{n}":{{"score":{n}}}"#))
            .collect();
        let json = format!(
            r#"{{"symbols":{{"a b":{{}},"\u001b[2J":{{}},"":{{}},"{}":{{}},"日本":{{}},{}}},"score":1,"action":"x"}}"#,
            "x".repeat(201),
            many.join(",")
        );
        let symbols = finding(json.as_bytes(), None).unwrap().symbols;
        assert_eq!(symbols.len(), MAX_SYMBOLS);
        assert_eq!(symbols[0].name, "日本");
        assert_eq!(
            (symbols[8].name.as_str(), symbols[8].score),
            ("S7", Some(7.0))
        );
    }

    #[test]
    fn what_the_controller_says() {
        let refused = |words: &str| Err(Fault::Refused(words.into()));
        let rows = [
            (200, r#"{"success":true}"#, Ok(Learned::New)),
            (208, r#"{"error":"x"}"#, Ok(Learned::Already)),
            (
                404,
                r#"{"error":"<2@b> has been already learned as ham, ignore it"}"#,
                Ok(Learned::Already),
            ),
            (
                401,
                r#"{"error":"Unauthorized"}"#,
                refused("401: Unauthorized"),
            ),
            (
                200,
                r#"{"success":false}"#,
                Err(Fault::Nonsense("it is no JSON with success")),
            ),
            (
                502,
                "<html>Bad Gateway</html>",
                Err(Fault::Nonsense(
                    "its status is an error, and it does not say why",
                )),
            ),
        ];
        for (status, body, expected) in rows {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                learned(status, body.as_bytes()),
                expected,
                "{status} {body}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text(text in "\\PC{0,200}") {
            let _ = finding(text.as_bytes(), None);
            let _ = learned(StatusCode::NOT_FOUND, text.as_bytes());
        }

        #[test]
        fn a_finding_is_read_back(
            score in -1e6f64..1e6,
            required in proptest::option::of(-1e3f64..1e3),
            action in "[a-z]{1,10}( [a-z]{1,10})?",
            symbols in proptest::collection::btree_map("[A-Z_0-9]{1,30}", proptest::option::of(-9f64..9.0), 0..20),
        ) {
            let of = |(name, score): (&String, &Option<f64>)| (name.clone(), serde_json::json!({"score": score, "options": ["x"]}));
            let json = serde_json::json!({
                "score": score, "required_score": required, "action": action, "milter": {"a": [1]},
                "symbols": symbols.iter().map(of).collect::<serde_json::Map<_, _>>(),
            });
            let read = finding(json.to_string().as_bytes(), None).unwrap();
            prop_assert!((read.score - score).abs() < 1e-6 && (read.required - required.unwrap_or(0.0)).abs() < 1e-6);
            prop_assert_eq!(read.action, Some(action));
            let names: Vec<String> = read.symbols.iter().map(|symbol| symbol.name.clone()).collect();
            prop_assert_eq!(names, symbols.keys().cloned().collect::<Vec<_>>());
        }
    }
}

//! What the scanners said of a mail (`scan` of a why-record), for a person.

use serde_json::Value;

use super::text::{clean, word};
use super::words::Language;

use Language::{En, Ja};

/// One line a scanner that was asked, or should have been.
pub(super) fn lines(scan: &Value, language: Language) -> Vec<String> {
    [virus(scan, language), spam(scan, language)]
        .into_iter()
        .flatten()
        .collect()
}

fn virus(scan: &Value, language: Language) -> Option<String> {
    let said = match (scan["virus"].as_str()?, language) {
        // By the field of the MTA's scanner: without it we cannot know whether one has looked.
        ("clean", Ja) if scan["virus_engine"].is_null() => {
            "MTA のスキャナーからウイルスの報告はありません".to_owned()
        }
        ("clean", En) if scan["virus_engine"].is_null() => {
            "the MTA's scanner reports no virus".to_owned()
        }
        ("clean", Ja) => "ウイルスは見つかりませんでした".to_owned(),
        ("clean", En) => "no virus found".to_owned(),
        ("infected", language) => infected(scan, language),
        (other, language) => not_scanned(other, &scan["virus_error"], language)?,
    };
    let engine = match &scan["virus_engine"] {
        Value::Object(engine) => engine
            .get("version")
            .map(|version| format!(" ({})", word(version))),
        _ => None,
    };
    let label = match language {
        Ja => "ウイルススキャン:",
        En => "virus scan:",
    };
    Some(format!("{label} {said}{}", engine.unwrap_or_default()))
}

fn infected(scan: &Value, language: Language) -> String {
    let mut said = match language {
        Ja => "ウイルスが見つかりました".to_owned(),
        En => "a virus was found".to_owned(),
    };
    if let Some(name) = scan["virus_name"].as_str() {
        said.push_str(&format!(": {}", clean(name)));
    }
    for part in scan["virus_parts"].as_array().into_iter().flatten() {
        let (path, file) = (word(&part["part"]), word(&part["file"]));
        said.push_str(&match language {
            Ja => format!("、パート {path}（{file}）"),
            En => format!(", part {path} ({file})"),
        });
    }
    said
}

fn spam(scan: &Value, language: Language) -> Option<String> {
    let said = match (scan["spam"].as_str()?, language) {
        ("ham", Ja) if scan["spam_engine"].is_null() => {
            "MTA のスキャナーから迷惑メールの報告はありません".to_owned()
        }
        ("ham", En) if scan["spam_engine"].is_null() => {
            "the MTA's scanner reports no spam".to_owned()
        }
        ("spam", Ja) => "スキャナーは迷惑メールと判定".to_owned(),
        ("spam", En) => "the scanner says spam".to_owned(),
        ("ham", Ja) => "スキャナーは迷惑メールではないと判定".to_owned(),
        ("ham", En) => "the scanner says no spam".to_owned(),
        (other, language) => not_scanned(other, &scan["spam_error"], language)?,
    };
    let label = match language {
        Ja => "迷惑メールスキャン:",
        En => "spam scan:",
    };
    let (points, threshold) = (points(scan, language), threshold(scan, language));
    Some(format!("{label} {said}{points}{threshold}"))
}

/// What the mailbox takes for spam, where that is not left to the scanner.
fn threshold(scan: &Value, language: Language) -> String {
    if !scan["spam_threshold"].is_number() {
        return String::new();
    }
    let score = word(&scan["spam_threshold"]);
    match language {
        Ja => format!("、このメールボックスでは {score} 点以上が迷惑メール (spam.score)"),
        En => format!("; this mailbox takes {score} points or more for spam (spam.score)"),
    }
}

/// Score, what the engine would do or from how many points on, and its rules.
fn points(scan: &Value, language: Language) -> String {
    if !scan["spam_score"].is_number() {
        return String::new();
    }
    let engine = word(&scan["spam_engine"]["name"]);
    let (score, required) = (word(&scan["spam_score"]), word(&scan["spam_required"]));
    let mut points = match (scan["spam_action"].as_str(), language) {
        (Some(action), Ja) => format!("（{engine}: {score} 点, {}", clean(action)),
        (Some(action), En) => format!(" ({engine}: {score} points, {}", clean(action)),
        (None, Ja) => format!("（{engine}: {score} 点、基準 {required} 点"),
        (None, En) => format!(" ({engine}: {score} points of {required}"),
    };
    let symbols = scan["spam_symbols"].as_array().into_iter().flatten();
    for symbol in symbols {
        points.push_str(&format!(", {}", word(&symbol["name"])));
        if symbol["score"].is_number() {
            points.push_str(&format!("={}", word(&symbol["score"])));
        }
    }
    points.push_str(match language {
        Ja => "）",
        En => ")",
    });
    points
}

fn not_scanned(outcome: &str, error: &Value, language: Language) -> Option<String> {
    match (outcome, language) {
        ("too_large", Ja) => Some("大きすぎるため検査していません".to_owned()),
        ("too_large", En) => Some("larger than max_size, not scanned".to_owned()),
        ("error", Ja) => Some(format!("検査できませんでした（{}）", word(error))),
        ("error", En) => Some(format!("it failed ({})", word(error))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_missing_field_is_not_called_a_clean_scan() {
        let upstream = json!({"virus": "clean", "spam": "ham"});
        let en = [
            "virus scan: the MTA's scanner reports no virus",
            "spam scan: the MTA's scanner reports no spam",
        ];
        assert_eq!(lines(&upstream, En), en);
        let ja = [
            "ウイルススキャン: MTA のスキャナーからウイルスの報告はありません",
            "迷惑メールスキャン: MTA のスキャナーから迷惑メールの報告はありません",
        ];
        assert_eq!(lines(&upstream, Ja), ja);
    }

    #[test]
    fn a_score_stands_beside_what_decided_on_it() {
        let rspamd = json!({"spam": "spam", "spam_engine": {"name": "rspamd"}, "spam_score": 7.0,
            "spam_required": 15.0, "spam_action": "add header",
            "spam_symbols": [{"name": "A", "score": 7.0}]});
        let spamd = json!({"spam": "ham", "spam_engine": {"name": "spamd"}, "spam_score": 4.5,
            "spam_required": 5.0, "spam_action": null, "spam_threshold": 4.0});
        let rows = [
            (
                &rspamd,
                "spam scan: the scanner says spam (rspamd: 7.0 points, add header, A=7.0)",
                "迷惑メールスキャン: スキャナーは迷惑メールと判定（rspamd: 7.0 点, add header, A=7.0）",
            ),
            (
                &spamd,
                "spam scan: the scanner says no spam (spamd: 4.5 points of 5.0); this mailbox takes \
                 4.0 points or more for spam (spam.score)",
                "迷惑メールスキャン: スキャナーは迷惑メールではないと判定（spamd: 4.5 点、基準 5.0 点）、\
                 このメールボックスでは 4.0 点以上が迷惑メール (spam.score)",
            ),
        ];
        for (scan, en, ja) in rows {
            assert_eq!(lines(scan, En), [en]);
            assert_eq!(lines(scan, Ja), [ja]);
        }
    }
}

//! A decision for a person: the JSON of `explain` and `why` as sentences in the owner's language.
//! Members that it does not know, or does not find, change nothing.

use std::io::{Result, Write};

use serde_json::Value;

use super::scan_words;
use super::text::{clean, word};
use super::words::{self, Language, Told};
use crate::policy::{NoReply, Outcome, Stage, Verdict};

use Language::{En, Ja};

pub(super) fn write(value: &Value, language: Language, out: &mut dyn Write) -> Result<()> {
    let told = if value["id"].is_string() {
        Told::Did
    } else {
        Told::Would
    };
    writeln!(out, "{}", headline(value, language, told))?;
    for line in reasons(value, language) {
        writeln!(out, "  {line}")?;
    }
    writeln!(out)?;
    for line in circumstances(value, language) {
        writeln!(out, "{line}")?;
    }
    for line in scan_words::lines(&value["scan"], language) {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\n{}", label(language, "処理の段階", "stages"))?;
    for (number, step) in (1..).zip(items(&value["steps"])) {
        writeln!(out, "  {number} {}", stage_line(step, language))?;
    }
    writeln!(out)?;
    delivery(value, language, out)?;
    consequences(value, language, out)?;
    all_stages(value, language, out)?;
    effects(value, language, out)?;
    left_out(value, language, out)
}

fn headline(value: &Value, language: Language, told: Told) -> String {
    let written = word(&value["verdict"]);
    match Verdict::named(&written) {
        Some(verdict) => {
            let sentence = words::verdict(language, told, verdict);
            format!("{sentence} [verdict: {written}]")
        }
        None => format!("verdict: {written}"),
    }
}

/// What decided, and what kept us from looking.
fn reasons(value: &Value, language: Language) -> Vec<String> {
    let mut lines = Vec::new();
    if value["stage"].is_string() {
        let stage = title(&value["stage"], language);
        let hit = hit(value, language);
        lines.push(match language {
            Ja => format!("決め手: {stage} {hit}"),
            En => format!("Decided by: {stage} {hit}"),
        });
    }
    if let Some(matched) = value["matched"].as_str() {
        let matched = quoted(matched, language);
        lines.push(match language {
            Ja => format!("メールの該当箇所: {matched}"),
            En => format!("In the mail: {matched}"),
        });
    }
    if value["bounds"].is_string() {
        let bounds = word(&value["bounds"]);
        lines.push(match language {
            Ja => {
                format!("メールが解析の上限（{bounds}）を超えたため、ヘッダーだけで判定しました。")
            }
            En => format!("The mail is over a bound ({bounds}): its header fields alone decided."),
        });
    }
    if value["bypass"].is_string() {
        let bypass = word(&value["bypass"]);
        lines.push(match language {
            Ja => format!("このメールは解析を避け、そのまま届けました（{bypass}）。"),
            En => format!("Nobody looked into this mail ({bypass}): it was passed on as it is."),
        });
    }
    lines
}

/// Of whose mail, from whom, when.
fn circumstances(value: &Value, language: Language) -> Vec<String> {
    let members = [
        ("id", "ID", "id"),
        ("mailbox", "メールボックス", "mailbox"),
        ("recipient", "宛先", "recipient"),
        ("received_at", "受信日時", "received"),
        ("sender", "差出人", "sender"),
        ("from", "From", "from"),
        ("subject", "件名", "subject"),
        ("client", "接続元", "client"),
        ("message_id", "Message-ID", "message-id"),
        ("size", "サイズ（バイト）", "size in bytes"),
    ];
    let given = members
        .iter()
        .filter_map(|(name, ja, en)| Some((value.get(name)?, ja, en)));
    given
        .map(|(value, ja, en)| format!("{} {}", label(language, ja, en), word(value)))
        .chain(settings(value, language))
        .collect()
}

/// Which settings decided, and whether they still count.
fn settings(value: &Value, language: Language) -> Option<String> {
    let generation = clean(value["generation"].as_str()?);
    let since = match (value["settings_changed"].as_bool(), language) {
        (Some(true), Ja) => "（その後変更されています）",
        (Some(true), En) => " (changed since then)",
        (Some(false), Ja) => "（現在も同じ）",
        (Some(false), En) => " (still the same)",
        (None, _) => "",
    };
    let label = label(language, "判定時の設定", "settings");
    Some(format!("{label} {generation}{since}"))
}

/// Where the mail lies.
fn delivery(value: &Value, language: Language, out: &mut dyn Write) -> Result<()> {
    let delivery = &value["delivery"];
    if !delivery["place"].is_string() {
        return Ok(());
    }
    let reply = match &delivery["reply"] {
        Value::Null => String::new(),
        reply => format!(" ({})", word(reply)),
    };
    let label = label(language, "配送先", "delivered to");
    writeln!(out, "{label} {}{reply}", word(&delivery["place"]))
}

/// What did not fit into the record.
fn left_out(value: &Value, language: Language, out: &mut dyn Write) -> Result<()> {
    for (name, length) in value["left_out"].as_object().into_iter().flatten() {
        let (name, length) = (clean(name), word(length));
        match language {
            Ja => writeln!(out, "記録が長いため省略: {name}（全{length}件）")?,
            En => writeln!(out, "cut, the record is long: {name} ({length} in all)")?,
        }
    }
    Ok(())
}

fn stage_line(step: &Value, language: Language) -> String {
    let written = word(&step["outcome"]);
    let outcome = Outcome::named(&written).map_or(written.as_str(), |outcome| {
        words::outcome(language, outcome)
    });
    let found = match step.get("entry") {
        Some(_) => format!(" {}", hit(step, language)),
        None => String::new(),
    };
    format!("{}: {outcome}{found}", title(&step["stage"], language))
}

fn consequences(value: &Value, language: Language, out: &mut dyn Write) -> Result<()> {
    if value["mark"].is_string() {
        let label = label(language, "件名に付ける印", "mark on the Subject");
        writeln!(out, "{label} {}", word(&value["mark"]))?;
    }
    let stages = [Stage::Forwarding, Stage::Notify, Stage::AutoReply];
    for (stage, told) in stages.into_iter().zip([
        forward(&value["forward"], language),
        notify(&value["notify"], language),
        auto_reply(&value["auto_reply"], language),
    ]) {
        let name = words::stage(language, stage);
        writeln!(out, "{} {told}", label(language, name, name))?;
    }
    Ok(())
}

fn forward(forward: &Value, language: Language) -> String {
    if forward["rule"].is_null() {
        return none(language).to_owned();
    }
    let [rule, to] = ["rule", "to"].map(|name| word(&forward[name]));
    match (language, forward["keep"] == true) {
        (Ja, true) => format!("{to} へ（{rule}、メールボックスにも残す）"),
        (Ja, false) => format!("{to} へ（{rule}、メールボックスには残さない）"),
        (En, true) => format!("to {to}, by {rule}; a copy is kept"),
        (En, false) => format!("to {to}, by {rule}; no copy is kept"),
    }
}

fn notify(notify: &Value, language: Language) -> String {
    if items(notify).is_empty() {
        return none(language).to_owned();
    }
    let to = word(notify);
    match language {
        Ja => format!("{to} へ"),
        En => format!("to {to}"),
    }
}

fn auto_reply(reply: &Value, language: Language) -> String {
    if reply["would_send"] == true {
        return match language {
            Ja => "対象（同じ相手へは一定時間に1通）".to_owned(),
            En => "yes, unless the sender had one within the interval".to_owned(),
        };
    }
    let written = word(&reply["reason"]);
    let reason = match NoReply::named(&written) {
        Some(reason) => words::no_reply(language, reason),
        None => &written,
    };
    match language {
        Ja => format!("なし（{reason}）"),
        En => format!("none: {reason}"),
    }
}

/// What each stage would say if nothing before it counted, and what that means for the owner of
/// the entry that decided.
fn all_stages(value: &Value, language: Language, out: &mut dyn Write) -> Result<()> {
    let stages = items(&value["all_stages"]);
    if stages.is_empty() {
        return Ok(());
    }
    let title = label(
        language,
        "各段階を単独で調べた結果",
        "each stage asked for itself",
    );
    writeln!(out, "\n{title}")?;
    for (number, stage) in (1..).zip(stages) {
        let further: String = items(&stage["entries"])
            .iter()
            .skip(1)
            .map(|entry| format!(", {}", hit(entry, language)))
            .collect();
        let line = stage_line(stage, language);
        let would = would_do(stage, language);
        writeln!(out, "  {number} {line}{further}{would}")?;
    }
    if value["verdict"] == Verdict::Quarantine.as_str() {
        without_the_entry(&next_holders(value, stages, language), language, out)?;
    }
    Ok(())
}

/// What a stage asked for itself would send, and why it would send no reply.
fn would_do(stage: &Value, language: Language) -> String {
    let matches = stage["outcome"] == Outcome::Match.as_str();
    match Stage::named(&word(&stage["stage"])) {
        Some(Stage::Forwarding) if matches => {
            format!(" - {}", forward(&stage["forward"], language))
        }
        Some(Stage::Notify) if matches => format!(" - {}", notify(&stage["notify"], language)),
        Some(Stage::AutoReply) => format!(" - {}", auto_reply(&stage["auto_reply"], language)),
        _ => String::new(),
    }
}

fn without_the_entry(next: &[String], language: Language, out: &mut dyn Write) -> Result<()> {
    let sentence = match (language, next.is_empty()) {
        (Ja, true) => "この登録を外すと、このメールを止めるものはほかにありません。",
        (Ja, false) => "この登録を外しても、次のものがこのメールを止めます:",
        (En, true) => "Without this entry nothing would stop the mail.",
        (En, false) => "Without this entry the mail would still be stopped by:",
    };
    writeln!(out, "\n{sentence}")?;
    next.iter().try_for_each(|entry| writeln!(out, "  {entry}"))
}

/// Every other entry that holds or replaces the mail, in the order in which they would be met.
fn next_holders(value: &Value, stages: &[Value], language: Language) -> Vec<String> {
    let is = |stage: &Value, named: Stage| stage["stage"] == named.as_str();
    let allowed = stages
        .iter()
        .any(|stage| is(stage, Stage::Allow) && stage["outcome"] == Outcome::Match.as_str());
    let mut next = Vec::new();
    for stage in stages {
        if stage["verdict"].is_null() || (allowed && is(stage, Stage::Spam)) {
            continue;
        }
        let own = std::slice::from_ref(stage);
        let entries = stage["entries"].as_array().map_or(own, Vec::as_slice);
        let others = entries.iter().filter(|entry| {
            stage["stage"] != value["stage"]
                || (&entry["entry"], &entry["origin"]) != (&value["entry"], &value["origin"])
        });
        let title = title(&stage["stage"], language);
        next.extend(others.map(|entry| format!("{title} {}", hit(entry, language))));
    }
    next
}

/// What was done beside the delivery, and how far it is.
fn effects(value: &Value, language: Language, out: &mut dyn Write) -> Result<()> {
    let effects = items(&value["effects"]);
    if effects.is_empty() {
        return Ok(());
    }
    let title = label(language, "送信と保存の状況", "what was sent and kept");
    writeln!(out, "\n{title}")?;
    for effect in effects {
        let kind = match serde_json::from_value(effect["kind"].clone()) {
            Ok(kind) => words::outgoing(language, kind).to_owned(),
            Err(_) => held_or_named(&effect["kind"], language),
        };
        for Fate { to, state, reply } in fates(effect) {
            let to = word(&to);
            let state = words::state(language, &state).unwrap_or(&state);
            let reply = match reply {
                Value::Null => String::new(),
                reply => format!(" ({})", word(reply)),
            };
            match language {
                Ja => writeln!(out, "  {kind}: {to} 宛て: {state}{reply}")?,
                En => writeln!(out, "  {kind} to {to}: {state}{reply}")?,
            }
        }
    }
    Ok(())
}

/// What became of an effect for some of its recipients.
struct Fate<'a> {
    to: Value,
    state: String,
    reply: &'a Value,
}

/// Those who have it, those who are still open and those who refused fare differently.
fn fates(effect: &Value) -> Vec<Fate<'_>> {
    let (open, refused) = (items(&effect["open"]), items(&effect["refused"]));
    let (state, reply) = (word(&effect["state"]), &effect["reply"]);
    if open.is_empty() && refused.is_empty() {
        let to = effect["to"].clone();
        return vec![Fate { to, state, reply }];
    }
    let has_it =
        |to: &&Value| !open.contains(to) && !refused.iter().any(|refusal| refusal["to"] == **to);
    let taken: Vec<Value> = items(&effect["to"])
        .iter()
        .filter(has_it)
        .cloned()
        .collect();
    let mut fates = Vec::new();
    if !taken.is_empty() {
        fates.push(Fate {
            to: taken.into(),
            state: "sent".to_owned(),
            reply: if state == "sent" { reply } else { &Value::Null },
        });
    }
    if !open.is_empty() {
        let (to, state) = (open.to_vec().into(), state.clone());
        fates.push(Fate { to, state, reply });
    }
    let refused_state = match state.as_str() {
        "in_mailbox" => state,
        _ => "refused".to_owned(),
    };
    fates.extend(refused.iter().map(|refusal| Fate {
        to: refusal["to"].clone(),
        state: refused_state.clone(),
        reply: &refusal["reply"],
    }));
    fates
}

fn held_or_named(kind: &Value, language: Language) -> String {
    match (kind == Verdict::Quarantine.as_str(), language) {
        (true, Ja) => "隔離".to_owned(),
        (true, En) => "quarantine".to_owned(),
        (false, _) => word(kind),
    }
}

/// `From受信拒否 (reject.from_suffixes)`.
fn title(stage: &Value, language: Language) -> String {
    let id = word(stage);
    match Stage::named(&id) {
        Some(stage) => format!("{} ({id})", words::stage(language, stage)),
        None => id,
    }
}

/// The entry and its place.
fn hit(value: &Value, language: Language) -> String {
    let entry = value["entry"].as_str().unwrap_or_default();
    let entry = quoted(entry, language);
    if value["origin"].is_null() {
        return entry;
    }
    format!("{entry} ({})", word(&value["origin"]))
}

fn quoted(text: &str, language: Language) -> String {
    let text = clean(text);
    match language {
        Ja => format!("「{text}」"),
        En => format!("\"{text}\""),
    }
}

fn label(language: Language, ja: &str, en: &str) -> String {
    match language {
        Ja => format!("{ja}:"),
        En => format!("{en}:"),
    }
}

fn none(language: Language) -> &'static str {
    match language {
        Ja => "なし",
        En => "none",
    }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(value: &Value, language: Language) -> String {
        let mut out = Vec::new();
        write(value, language, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_missing_or_unknown_does_no_harm() {
        for value in [
            json!({}),
            json!({"verdict": "tomorrow", "stage": "later", "entry": null, "steps": [{}, 1, "x"]}),
            json!({"id": "x", "steps": null, "forward": [], "notify": "x", "auto_reply": 1,
                   "effects": [{}, {"kind": "flight", "to": null, "state": "away"}],
                   "all_stages": [{"stage": "forwarding", "entries": {}}], "matched": {"from": 1}}),
        ] {
            for language in [Ja, En] {
                assert!(told(&value, language).contains("verdict: "), "{value}");
            }
        }
    }

    #[test]
    fn what_kept_us_from_looking_is_told() {
        let value = json!({"id": "x", "verdict": "deliver", "bounds": "MimeDepth", "bypass": "crash",
                           "matched": "\u{1b}[2J広告", "left_out": {"forward.to": 10},
                           "generation": "\u{1b}0a", "settings_changed": true,
                           "delivery": {"place": "\u{1b}/m", "reply": "250 \u{1b}ok"}});
        let text = told(&value, En);
        for words in [
            "forward.to (10 in all)",
            "\u{fffd}0a (changed since then)",
            "\u{fffd}/m (250 \u{fffd}ok)",
            "MimeDepth",
            "(crash)",
            "In the mail: \"\u{fffd}[2J広告\"",
        ] {
            assert!(text.contains(words), "{text}");
        }
        let text = told(&value, Ja);
        for words in ["上限（MimeDepth）", "（crash）", "「\u{fffd}[2J広告」"] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn effects_have_their_state_in_words() {
        let value = json!({"id": "x", "verdict": "deliver", "effects": [
            {"kind": "forward", "to": ["a@b.example"], "state": "dead", "reply": "550 5.1.1 no"},
            {"kind": "quarantine", "to": ["c@d.example"], "state": "held", "reply": null},
            {"kind": "release", "to": ["c@d.example"], "state": "odd", "reply": null},
        ]});
        let text = told(&value, En);
        assert!(
            text.ends_with(
                "  forward to a@b.example: given up (550 5.1.1 no)\n  \
                 quarantine to c@d.example: held\n  release to c@d.example: odd\n"
            ),
            "{text}"
        );
        let text = told(&value, Ja);
        assert!(
            text.ends_with(
                "  転送: a@b.example 宛て: 送信できませんでした (550 5.1.1 no)\n  \
                 隔離: c@d.example 宛て: 隔離中\n  再配送: c@d.example 宛て: odd\n"
            ),
            "{text}"
        );
    }
}

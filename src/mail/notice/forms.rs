//! The two forms of the notice, both written from the same blocks, and its words.

use super::{Count, HeldAs};
use crate::mail::compose::{Language, Letter};

/// A piece of the letter.
pub(super) enum Block {
    /// Lines, already clean.
    Text(String),
    Heading(&'static str),
    Counts(Vec<Count>),
    /// Held mails, the first has this number.
    Entries(usize, Vec<Row>),
}

/// Labels and clean values of one held mail.
pub(super) type Row = [(&'static str, String); 7];

pub(super) fn text(language: Language, blocks: &[Block]) -> String {
    let words = DailyWords::of(language);
    let mut text = String::new();
    for block in blocks {
        match block {
            Block::Text(lines) => {
                text.push_str(lines);
                text.push('\n');
            }
            Block::Heading(heading) => text.push_str(&format!("[{heading}]\n")),
            Block::Counts(counts) => {
                for count in counts {
                    let [label, new, held] = words.count(count);
                    let line = format!("{label}: {} {new}, {} {held}\n", words.new, words.held);
                    text.push_str(&line);
                }
            }
            Block::Entries(first, rows) => {
                for (number, row) in (*first..).zip(rows) {
                    let mut lead = format!("{number}. ");
                    for (label, value) in row {
                        text.push_str(&format!("{lead}{label}: {value}\n"));
                        lead = "   ".to_owned();
                    }
                    text.push('\n');
                }
                // One empty line is enough.
                text.pop();
            }
        }
        text.push('\n');
    }
    text.pop();
    text
}

pub(super) fn html(letter: &Letter<'_>, title: &str, blocks: &[Block]) -> String {
    let words = DailyWords::of(letter.language);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"{}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>{}</title>\n</head>\n<body>\n",
        words.lang,
        escaped(title)
    );
    for block in blocks {
        match block {
            Block::Text(lines) => html.push_str(&paragraph(lines)),
            Block::Heading(heading) => {
                html.push_str(&format!("<h2>{}</h2>\n", escaped(heading)));
            }
            Block::Counts(counts) => {
                let head = ["", words.new, words.held];
                let row = |count: &Count| words.count(count).to_vec();
                html.push_str(&table(&head, counts.iter().map(row)));
            }
            Block::Entries(first, rows) => {
                let labels = rows.iter().take(1).flatten().map(|(label, _)| *label);
                let head: Vec<&str> = std::iter::once("").chain(labels).collect();
                let row = |(number, row): (usize, &Row)| {
                    let values = row.iter().map(|(_, value)| value.clone());
                    std::iter::once(format!("{number}."))
                        .chain(values)
                        .collect()
                };
                html.push_str(&table(&head, (*first..).zip(rows).map(row)));
            }
        }
    }
    if !letter.signature.is_empty() {
        html.push_str(&paragraph(letter.signature));
    }
    html.push_str("</body>\n</html>\n");
    html
}

fn paragraph(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(escaped).collect();
    format!("<p>{}</p>\n", lines.join("<br>\n"))
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table =
        String::from("<table border=\"1\" cellpadding=\"4\" cellspacing=\"0\">\n<tr>\n");
    for label in head {
        table.push_str(&format!("<th>{}</th>\n", escaped(label)));
    }
    for row in rows {
        table.push_str("</tr>\n<tr>\n");
        for value in row {
            table.push_str(&format!("<td>{}</td>\n", escaped(&value)));
        }
    }
    table.push_str("</tr>\n</table>\n");
    table
}

/// Text as it may stand in an element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The words of this letter, beside those of [`Words`].
pub(super) struct DailyWords {
    lang: &'static str,
    spam: &'static str,
    user_rule: &'static str,
    new: &'static str,
    held: &'static str,
    /// Behind a number of mails.
    mails: &'static str,
    pub(super) new_since: &'static str,
    pub(super) expiring: &'static str,
    pub(super) expires_at: &'static str,
    pub(super) reason: &'static str,
    /// Behind the time.
    pub(super) mark: &'static str,
}

impl DailyWords {
    pub(super) fn of(language: Language) -> &'static Self {
        match language {
            Language::Ja => &JA,
            Language::En => &EN,
        }
    }

    /// Class, new, held in all.
    fn count(&self, count: &Count) -> [String; 3] {
        let label = match count.held_as {
            HeldAs::Spam => self.spam,
            HeldAs::UserRule => self.user_rule,
        };
        let mails = |number: u64| format!("{number}{}", self.mails);
        [label.to_owned(), mails(count.new), mails(count.held)]
    }
}

const JA: DailyWords = DailyWords {
    lang: "ja",
    spam: "迷惑メール",
    user_rule: "受信拒否の設定",
    new: "新着",
    held: "隔離中",
    mails: " 通",
    new_since: "前回のお知らせより後に隔離したメール",
    expiring: "保存期限まで1日以内のメール (お知らせ済み)",
    expires_at: "保存期限",
    reason: "隔離の理由",
    mark: " (保存期限まで1日以内)",
};

const EN: DailyWords = DailyWords {
    lang: "en",
    spam: "Spam",
    user_rule: "Your reject rules",
    new: "new",
    held: "held in all",
    mails: "",
    new_since: "Held since the last notice",
    expiring: "Told of before, expires within a day",
    expires_at: "Held until",
    reason: "Reason",
    mark: " (expires within a day)",
};

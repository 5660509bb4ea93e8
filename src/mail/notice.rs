//! The quarantine notice: what is held for an owner, as a letter in two forms, text and HTML, that
//! say the same.
//!
//! What it says is a list of [`Block`]s, which both forms are written from. The HTML is tables and
//! paragraphs: no script, no style, no link, nothing from elsewhere. Every value is cleaned as in
//! [`super::compose`], and escaped.

mod forms;

use self::forms::{Block, DailyWords, Row};
use super::compose::{self, Language, Letter, Words};
use super::letter::clean;

/// The entries that a notice lists; the rest is counted.
pub const LISTED: usize = 200;

/// Why a mail is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The spam stage.
    Spam,
    /// The spam stage, since its scanner failed (`on_error: quarantine`).
    NotScanned,
    /// `reject.from_suffixes`: the header From ends with it.
    FromSuffix(String),
    /// `reject.subject_contains`: the Subject contains it.
    SubjectContains(String),
    /// `reject.headers`: its word.
    Header(String),
}

/// The classes that a notice tells of apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldAs {
    /// Spam.
    Spam,
    /// By the owner's own reject rules.
    UserRule,
}

/// One held mail.
#[derive(Debug, Clone)]
pub struct HeldEntry {
    /// The id for `quarantine release`.
    pub id: String,
    /// The header From decoded.
    pub from: String,
    /// The Subject decoded.
    pub subject: String,
    /// When it came, as a person reads it.
    pub received_at: String,
    /// When it goes, as a person reads it.
    pub expires_at: String,
    /// It goes within a day.
    pub expiring: bool,
    /// Octets.
    pub size: u64,
    /// Why it is held.
    pub reason: Reason,
}

/// How much is held of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Which.
    pub held_as: HeldAs,
    /// Mails that no daily notice has told of.
    pub new: u64,
    /// Mails in all, with the new ones.
    pub held: u64,
}

/// What a daily notice tells.
#[derive(Debug, Clone, Default)]
pub struct Daily {
    /// For each class that the owner wants to be told of.
    pub counts: Vec<Count>,
    /// New since the last notice: the first of them, or all.
    pub new: Vec<HeldEntry>,
    /// Told of before, and they go within a day: the first of them, or all.
    pub expiring: Vec<HeldEntry>,
    /// How many go within a day of those told of before.
    pub expiring_count: u64,
}

impl Daily {
    /// How many are new, listed or not.
    pub fn new_count(&self) -> u64 {
        self.counts.iter().map(|count| count.new).sum()
    }
}

/// The notice of one mail that was held just now (`notice: each`).
pub fn one_held(letter: &Letter<'_>, entry: &HeldEntry) -> Vec<u8> {
    let mailbox = clean(&letter.mailbox.to_string());
    let (subject, begin) = match letter.language {
        Language::Ja => (
            "メール隔離のお知らせ",
            format!("{mailbox} 宛ての次のメールを、お届けせずに隔離しました。"),
        ),
        Language::En => (
            "A mail to you is held in quarantine",
            format!("This mail for {mailbox} was not delivered and is held:"),
        ),
    };
    let entries = std::slice::from_ref(entry);
    let blocks = [
        Block::Text(begin),
        Block::Entries(1, rows(letter.language, entries)),
        how_to(letter.language, own_rules(entries)),
    ];
    let auto_submitted = compose::auto_notified(letter.mailbox);
    write(letter, subject, &auto_submitted, &blocks)
}

/// The notice of a mailbox's held mail (`notice: daily`). Of its entries the first 200 are listed,
/// new ones before those told of already; the rest is counted.
pub fn report(letter: &Letter<'_>, daily: &Daily) -> Vec<u8> {
    let language = letter.language;
    let words = DailyWords::of(language);
    let mailbox = clean(&letter.mailbox.to_string());
    let new = daily.new.get(..LISTED).unwrap_or(&daily.new);
    let room = LISTED - new.len();
    let expiring = daily.expiring.get(..room).unwrap_or(&daily.expiring);
    let mut blocks = vec![
        Block::Text(match language {
            Language::Ja => {
                format!(
                    "{mailbox} 宛てのメールのうち、お届けせずに隔離しているものをお知らせします。"
                )
            }
            Language::En => format!("Mail for {mailbox} that was not delivered and is held:"),
        }),
        Block::Counts(daily.counts.clone()),
    ];
    if !new.is_empty() {
        blocks.push(Block::Heading(words.new_since));
        blocks.push(Block::Entries(1, rows(language, new)));
    }
    if !expiring.is_empty() {
        blocks.push(Block::Heading(words.expiring));
        blocks.push(Block::Entries(new.len() + 1, rows(language, expiring)));
    }
    let told = daily.new_count().saturating_add(daily.expiring_count);
    let listed = u64::try_from(new.len() + expiring.len()).unwrap_or(u64::MAX);
    let rest = told.saturating_sub(listed);
    if rest > 0 {
        blocks.push(Block::Text(match language {
            Language::Ja => format!("ほか {rest} 通"),
            Language::En => format!("and {rest} more"),
        }));
    }
    let of_rules = |count: &Count| count.held_as == HeldAs::UserRule && count.held > 0;
    let rules = daily.counts.iter().any(of_rules);
    blocks.push(how_to(language, rules));
    write(letter, &title(language, daily), "auto-generated", &blocks)
}

fn title(language: Language, daily: &Daily) -> String {
    let (new, expiring) = (daily.new_count(), daily.expiring_count);
    match (language, expiring) {
        (Language::Ja, 0) => format!("隔離レポート: 新着 {new} 通"),
        (Language::Ja, _) => format!("隔離レポート: 新着 {new} 通、期限間近 {expiring} 通"),
        (Language::En, 0) => format!("Quarantine report: {new} new"),
        (Language::En, _) => format!("Quarantine report: {new} new, {expiring} expiring"),
    }
}

fn own_rules(entries: &[HeldEntry]) -> bool {
    let by_the_stage = |reason: &Reason| matches!(reason, Reason::Spam | Reason::NotScanned);
    entries.iter().any(|entry| !by_the_stage(&entry.reason))
}

/// What the owner can do about it; `rules`: also about mail that his own rules hold.
fn how_to(language: Language, rules: bool) -> Block {
    let lines = match language {
        Language::Ja => [
            "隔離したメールは、保存期限を過ぎると自動的に削除されます。",
            "必要なメールは、保存期限までに「再配送」するとメールボックスに届きます。",
            "今後も受け取りたい差出人は「受信許可」に登録してください。",
            "受信拒否の設定で隔離したメールを今後受け取るには、その設定を外してください。",
            "操作の方法がわからないときは、メールの ID を添えて管理者へお問い合わせください。",
        ],
        Language::En => [
            "Held mail is deleted when its time is over.",
            "Until then you can release it to your mailbox,",
            "and allow its sender if you want more of the kind.",
            "To get mail that your own reject rules hold, remove the rule.",
            "If you do not know how, ask your administrator and name the ID.",
        ],
    };
    let about_rules = 3;
    let lines = lines.into_iter().enumerate();
    let lines: Vec<&str> = lines
        .filter_map(|(at, line)| (rules || at != about_rules).then_some(line))
        .collect();
    Block::Text(lines.join("\n"))
}

fn rows(language: Language, entries: &[HeldEntry]) -> Vec<Row> {
    let (words, more) = (Words::of(language), DailyWords::of(language));
    let row = |entry: &HeldEntry| {
        let mark = if entry.expiring { more.mark } else { "" };
        [
            (words.subject, words.or_none(&entry.subject)),
            (words.from, words.or_none(&entry.from)),
            (words.received_at, words.or_none(&entry.received_at)),
            (
                more.expires_at,
                format!("{}{mark}", words.or_none(&entry.expires_at)),
            ),
            (words.size, words.octets(entry.size)),
            (more.reason, reason(language, &entry.reason)),
            ("ID", clean(&entry.id)),
        ]
    };
    entries.iter().map(row).collect()
}

fn reason(language: Language, reason: &Reason) -> String {
    let words = Words::of(language);
    match (language, reason) {
        (Language::Ja, Reason::Spam) => "迷惑メールの判定".to_owned(),
        (Language::En, Reason::Spam) => "taken for spam".to_owned(),
        (Language::Ja, Reason::NotScanned) => "迷惑メールの検査ができなかったため".to_owned(),
        (Language::En, Reason::NotScanned) => "could not be checked for spam".to_owned(),
        (Language::Ja, Reason::FromSuffix(entry)) => {
            format!("受信拒否の設定 (差出人の末尾「{}」)", words.or_none(entry))
        }
        (Language::En, Reason::FromSuffix(entry)) => {
            format!(
                "your reject rule (sender ends with \"{}\")",
                words.or_none(entry)
            )
        }
        (Language::Ja, Reason::SubjectContains(entry)) => {
            format!("受信拒否の設定 (件名の「{}」)", words.or_none(entry))
        }
        (Language::En, Reason::SubjectContains(entry)) => {
            format!(
                "your reject rule (subject contains \"{}\")",
                words.or_none(entry)
            )
        }
        (Language::Ja, Reason::Header(word)) => {
            format!("受信拒否の設定 ({})", header_words(language, word))
        }
        (Language::En, Reason::Header(word)) => {
            format!("your reject rule ({})", header_words(language, word))
        }
    }
}

/// A word of `reject.headers` as its owner understands it.
fn header_words(language: Language, word: &str) -> String {
    let (ja, en) = match word {
        "from_missing" => ("差出人欄がない", "no From"),
        "from_empty" => ("差出人欄が空", "empty From"),
        "from_empty_address" => ("差出人のアドレスがない", "no address in From"),
        "subject_missing" => ("件名欄がない", "no Subject"),
        "subject_empty" => ("件名が空", "empty Subject"),
        other => return clean(other),
    };
    match language {
        Language::Ja => ja,
        Language::En => en,
    }
    .to_owned()
}

fn write(letter: &Letter<'_>, subject: &str, auto_submitted: &str, blocks: &[Block]) -> Vec<u8> {
    let mut fields = compose::begin(letter, subject);
    fields.ascii("Auto-Submitted", auto_submitted);
    let text = compose::signed(forms::text(letter.language, blocks), letter.signature);
    let html = forms::html(letter, subject, blocks);
    fields.finish_alternative(&text, &html)
}

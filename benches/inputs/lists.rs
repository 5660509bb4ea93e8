//! Lists as owners write them: their entries' lengths and forms are those of real block lists.

use std::sync::Arc;

use crate::policy::{Origin, Pattern};

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ENDS: [&str; 10] = [
    "com", "net", "biz", "info", "xyz", "shop", "jp", "co.jp", "ne.jp", "cn",
];
const KANJI: &str =
    "特別限定無料当選現金副業出会投資未承諾広告緊急確認口座凍結更新支払督促懸賞還元";

/// From suffixes, 17 octets in the mean: `@label.end`, `label@label.end`, `.label.end`, `label.end`.
pub fn suffixes(count: u32) -> impl Iterator<Item = Pattern> {
    patterns(count, |numbers| {
        let domain = format!("{}.{}", label(numbers), ENDS[numbers.below(ENDS.len())]);
        match numbers.below(10) {
            0..6 => format!("@{domain}"),
            6..8 => format!("{}@{domain}", label(numbers)),
            8 => format!(".{domain}"),
            _ => domain,
        }
    })
}

/// Subject substrings, 18 octets in the mean: half kanji, the rest Latin words and both together.
pub fn substrings(count: u32) -> impl Iterator<Item = Pattern> {
    let kanji: Vec<char> = KANJI.chars().collect();
    let word = move |numbers: &mut Numbers, length: usize| -> String {
        (0..length)
            .map(|_| kanji[numbers.below(kanji.len())])
            .collect()
    };
    patterns(count, move |numbers| match numbers.below(10) {
        0..5 => {
            let length = 3 + numbers.below(6);
            word(numbers, length)
        }
        5..8 => {
            let words: Vec<String> = (0..=numbers.below(3)).map(|_| label(numbers)).collect();
            words.join(" ")
        }
        _ => format!("【{}】{}", word(numbers, 2), label(numbers)),
    })
}

fn label(numbers: &mut Numbers) -> String {
    let length = 4 + numbers.below(11);
    (0..length)
        .map(|_| char::from(LETTERS[numbers.below(LETTERS.len())]))
        .collect()
}

fn patterns(count: u32, text: impl Fn(&mut Numbers) -> String) -> impl Iterator<Item = Pattern> {
    let file: Arc<str> = Arc::from("taro.yaml");
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    (1..=count).map(move |line| Pattern {
        text: text(&mut numbers),
        origin: Origin {
            file: Arc::clone(&file),
            line,
        },
    })
}

/// xorshift64: numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

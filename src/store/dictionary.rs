//! LZ4 blocks (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>) that refer to a text
//! known beforehand. `lz4_flex`, which reads them, indexes such a text anew for each block that it
//! writes, five times the work of a short block itself; here it is indexed once.

/// Slots of an index, a power of two.
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 12;
/// The shortest repetition that a block may have.
const SHORTEST: usize = 4;
/// So many octets at the end of a block repeat nothing, and no repetition begins in the last
/// [`CALM`] ones.
const LITERAL_END: usize = 5;
const CALM: usize = 12;

/// A text with its index.
pub(super) struct Dictionary {
    text: &'static [u8],
    /// By the hash of four octets where they stand.
    places: [u16; SLOTS],
}

impl Dictionary {
    /// Of a text of at most 64 KiB.
    pub(super) fn new(text: &'static [u8]) -> Self {
        let mut places = [0; SLOTS];
        for at in 0..text.len() {
            note(&mut places, text, at);
        }
        Self { text, places }
    }

    /// The block of `data`.
    pub(super) fn pack(&self, data: &[u8]) -> Vec<u8> {
        let mut places = self.places;
        let all = [self.text, data].concat();
        let mut block = Vec::with_capacity(data.len());
        let mut at = self.text.len();
        let mut literals = at;
        while at + CALM < all.len() {
            match note(&mut places, &all, at) {
                Some(back) => {
                    let length = repeated(&all, at, back.into());
                    push_literals(&mut block, &all, literals..at, length - SHORTEST);
                    block.extend(back.to_le_bytes());
                    push_rest(&mut block, length - SHORTEST);
                    at += length;
                    literals = at;
                }
                None => at += 1,
            }
        }
        push_literals(&mut block, &all, literals..all.len(), 0);
        block
    }
}

/// Notes where four octets stand. How far back the same stood before, where an offset reaches so far.
fn note(places: &mut [u16; SLOTS], all: &[u8], at: usize) -> Option<u16> {
    let octets = all.get(at..)?.first_chunk()?;
    let hash = u32::from_le_bytes(*octets).wrapping_mul(0x9E37_79B1) >> (u32::BITS - SLOT_BITS);
    let place = places.get_mut(hash as usize)?;
    let before = usize::from(std::mem::replace(place, u16::try_from(at).ok()?));
    let same = before < at && all.get(before..)?.first_chunk() == Some(octets);
    u16::try_from(at - before).ok().filter(|_| same)
}

/// How many octets at `at` repeat those that stand so far back.
fn repeated(all: &[u8], at: usize, back: usize) -> usize {
    let end = all.len().saturating_sub(LITERAL_END);
    let here = all.get(at..end).unwrap_or_default();
    let there = all.get(at - back..).unwrap_or_default();
    let (eights, others) = (here.as_chunks::<8>().0, there.as_chunks::<8>().0);
    let same = 8 * eights
        .iter()
        .zip(others)
        .take_while(|(a, b)| a == b)
        .count();
    let rest = here.iter().zip(there).skip(same);
    same + rest.take_while(|(a, b)| a == b).count()
}

/// A sequence up to where its repetition begins.
fn push_literals(block: &mut Vec<u8>, all: &[u8], range: std::ops::Range<usize>, repeated: usize) {
    let literals = all.get(range).unwrap_or_default();
    let nibble = |length: usize| length.min(15) as u8;
    block.push(nibble(literals.len()) << 4 | nibble(repeated));
    push_rest(block, literals.len());
    block.extend_from_slice(literals);
}

/// What of a length did not fit into its half of the first octet.
fn push_rest(block: &mut Vec<u8>, length: usize) {
    if let Some(rest) = length.checked_sub(15) {
        block.extend(std::iter::repeat_n(255, rest / 255));
        block.push((rest % 255) as u8);
    }
}

#[cfg(test)]
mod tests {
    use lz4_flex::block::{compress_with_dict, decompress_with_dict};
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = br#"{"id":"01m8","verdict":"deliver","stage":null,"outgoing":[]}"#;

    fn there_and_back(text: &'static [u8], data: &[u8]) -> usize {
        let block = Dictionary::new(text).pack(data);
        let back = decompress_with_dict(&block, data.len(), text).unwrap();
        assert_eq!(back, data);
        assert_ends(&block, data.len());
        block.len()
    }

    /// What the format asks of the end of a block, and a reader need not look at.
    fn assert_ends(block: &[u8], octets: usize) {
        let (mut rest, mut written) = (block.iter().map(|octet| usize::from(*octet)), 0);
        let length = |nibble: usize, rest: &mut dyn Iterator<Item = usize>| {
            let (mut length, mut more) = (nibble, nibble == 15);
            while more {
                let octet = rest.next().unwrap();
                length += octet;
                more = octet == 255;
            }
            length
        };
        while let Some(token) = rest.next() {
            let literals = length(token >> 4, &mut rest);
            written += literals;
            rest.by_ref().take(literals).for_each(drop);
            if rest.next().is_none() {
                assert_eq!(written, octets);
                assert!(literals >= LITERAL_END.min(octets));
                return;
            }
            assert!(written + CALM <= octets, "a repetition begins too late");
            rest.next();
            written += SHORTEST + length(token & 15, &mut rest);
        }
        assert_eq!(octets, 0);
    }

    fn noise(octets: usize) -> Vec<u8> {
        let numbers = (0..octets).map(|n| (n as u32 + 1).wrapping_mul(2_654_435_761));
        numbers.map(|n| (n >> 24) as u8).collect()
    }

    #[test]
    fn lengths_around_those_that_take_one_octet_more() {
        for n in 0..600 {
            let data = [noise(n), TEXT.to_vec(), vec![b'x'; n], noise(13)].concat();
            there_and_back(TEXT, &data);
            let data = [&TEXT[n % TEXT.len()..], &TEXT[..n % 50], &noise(n)].concat();
            there_and_back(TEXT, &data);
        }
    }

    #[test]
    fn what_is_known_is_not_said_again() {
        let data = TEXT.repeat(20);
        assert!(there_and_back(TEXT, &data) < 30);
        assert!(there_and_back(b"", &data) < TEXT.len() + 30);
        let longer = [data.as_slice(), &[b'x'; 1000], &data].concat();
        assert!(there_and_back(TEXT, &longer) < 60);
        assert!(there_and_back(TEXT, &longer) <= compress_with_dict(&longer, TEXT).len());
    }

    #[test]
    fn the_ends_are_literal() {
        for length in 0..40 {
            there_and_back(TEXT, &TEXT[..length]);
            there_and_back(TEXT, &b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"[..length]);
        }
    }

    #[test]
    fn nothing_further_back_than_an_offset_reaches_is_repeated() {
        let noise: Vec<u8> = (0_u32..70_000)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let data = [
            b"the same at both ends",
            noise.as_slice(),
            b"the same at both ends",
        ]
        .concat();
        there_and_back(TEXT, &data);
    }

    proptest! {
        #[test]
        fn all_that_is_written_is_read(
            words in prop::collection::vec("[a-c]{1,6}|\"id\":|\"stage\":null|[ -~]{0,300}", 0..60),
        ) {
            there_and_back(TEXT, words.concat().as_bytes());
        }

        #[test]
        fn any_octets(data in prop::collection::vec(any::<u8>(), 0..5000)) {
            there_and_back(TEXT, &data);
        }
    }
}

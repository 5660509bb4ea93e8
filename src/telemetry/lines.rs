//! Where lines of the log are written: each at once, or those of one piece of work in one go. A system
//! call for each of 200 recipients was a fifth of the processor time that such a mail took.

use std::cell::RefCell;
use std::io::{self, Write};

/// A gathering is written early once it has so many octets.
const MOST: usize = 64 * 1024;

thread_local! {
    static GATHERED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Does work that does not wait; the lines that it logs to standard error are written when it is done.
pub fn together<T>(work: impl FnOnce() -> T) -> T {
    if GATHERED.with_borrow(Option::is_some) {
        return work();
    }
    GATHERED.set(Some(Vec::new()));
    let _end = End;
    work()
}

/// Writes what was gathered, also where the work panicked.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        let lines = GATHERED.take().unwrap_or_default();
        // As with a single line: where standard error is gone there is nobody to tell.
        let _ = io::stderr().write_all(&lines);
    }
}

/// Standard error, or what is gathered for it. A line comes in one piece.
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        GATHERED.with_borrow_mut(|gathered| match gathered {
            None => io::stderr().write_all(line).map(|()| line.len()),
            Some(lines) => gather(lines, line, io::stderr()),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gather(lines: &mut Vec<u8>, line: &[u8], mut full: impl Write) -> io::Result<usize> {
    if lines.len() + line.len() > MOST {
        full.write_all(&std::mem::take(lines))?;
    }
    lines.extend_from_slice(line);
    Ok(line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gathering_that_is_full_is_written_in_order() {
        let all: Vec<String> = (0..9000).map(|n| format!("line {n}\n")).collect();
        let (mut lines, mut out) = (Vec::new(), Vec::new());
        for line in &all {
            gather(&mut lines, line.as_bytes(), &mut out).unwrap();
            assert!(lines.len() <= MOST);
        }
        assert!(!out.is_empty() && !lines.is_empty());
        assert_eq!([out, lines].concat(), all.concat().into_bytes());
    }
}

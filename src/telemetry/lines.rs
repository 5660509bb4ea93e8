//! Where lines of the log are written: each at once, or those of one piece of work in one go. A system
//! call for each of 200 recipients takes as long as all else that is done for them.

use std::cell::RefCell;
use std::io::{self, Write};

/// A gathering is written early once it has so many octets.
const MOST: usize = 64 * 1024;

thread_local! {
    static GATHERED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Does work that does not wait; the lines that it logs to standard error are written when it is done.
pub fn together<T>(work: impl FnOnce() -> T) -> T {
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
            None => io::stderr().write(line),
            Some(lines) => {
                if lines.len() + line.len() > MOST {
                    io::stderr().write_all(&std::mem::take(lines))?;
                }
                lines.extend_from_slice(line);
                Ok(line.len())
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

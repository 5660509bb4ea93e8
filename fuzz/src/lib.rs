//! What the targets share: how memory is measured, how texts lie in an input.

use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Runs `work` and asserts that it never held more than `most` octets of heap beside what was held
/// before. Nothing else may run at the same time.
pub fn within<T>(most: usize, work: impl FnOnce() -> T) -> T {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let done = work();
    let taken = HEAP.peak_usage().saturating_sub(before);
    assert!(
        taken <= most,
        "{taken} octets of memory, {most} are allowed"
    );
    done
}

/// The texts of an input: they end at each 0xFF, which no text holds; any other octet that is no
/// UTF-8 is replaced.
pub fn texts(input: &[u8]) -> impl Iterator<Item = String> {
    let pieces = input.split(|&octet| octet == 0xff);
    pieces.map(|piece| String::from_utf8_lossy(piece).into_owned())
}

//! Memory for the octets of large mail.

/// The daemon's jemalloc takes what has 8 MiB and more (`oversize_threshold`) from an arena that gives pages
/// back at once; those of a smaller piece may stay for a while when it is dropped.
const AT_ONCE: usize = 8 << 20;
/// What is smaller is not worth giving back.
const LARGE: usize = 256 * 1024;

/// An empty buffer for a mail of `octets`. The pages of a large one go back to the system when it
/// is dropped; it reserves more addresses than it needs, which costs no memory.
pub fn buffer(octets: usize) -> Vec<u8> {
    let room = if octets > LARGE {
        octets.max(AT_ONCE)
    } else {
        octets
    };
    Vec::with_capacity(room)
}

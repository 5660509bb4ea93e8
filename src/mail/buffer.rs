//! Memory for the octets of large mail.

/// glibc gives an allocation of more than 32 MiB (`DEFAULT_MMAP_THRESHOLD_MAX`) a mapping of its
/// own, always; a smaller one it cuts out of the arena of the calling thread, where its pages may
/// stay when it is dropped.
const OWN_MAPPING: usize = (32 << 20) + 1;
/// What is smaller is not worth a mapping.
const LARGE: usize = 256 * 1024;

/// An empty buffer for a mail of `octets`. The pages of a large one go back to the system when it
/// is dropped; it reserves more addresses than it needs, which costs no memory.
pub fn buffer(octets: usize) -> Vec<u8> {
    let room = if octets > LARGE {
        octets.max(OWN_MAPPING)
    } else {
        octets
    };
    Vec::with_capacity(room)
}

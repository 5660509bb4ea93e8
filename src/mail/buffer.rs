//! Memory for the octets of large mail.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// glibc gives an allocation of more than 32 MiB (`DEFAULT_MMAP_THRESHOLD_MAX`) a mapping of its
/// own, always; a smaller one it cuts out of the arena of the calling thread, where its pages may
/// stay when it is dropped.
const OWN_MAPPING: usize = (32 << 20) + 1;
/// What is smaller is not worth a mapping.
const LARGE: usize = 256 * 1024;
/// Buffers that wait for the next large mail: to get fresh pages and give them back took a quarter
/// of the processor time of a mail of 2 MiB.
const SPARE: usize = 2;
/// One that held more is not kept.
const MOST_SPARE: usize = 4 << 20;

static SPARES: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// An empty buffer for a mail of `octets`. A large one reserves more addresses than it needs, which
/// costs no memory; its pages go back to the system when it is dropped.
pub fn buffer(octets: usize) -> Vec<u8> {
    if octets <= LARGE {
        return Vec::with_capacity(octets);
    }
    let spare = (octets <= OWN_MAPPING).then(|| spares().pop()).flatten();
    spare.unwrap_or_else(|| Vec::with_capacity(octets.max(OWN_MAPPING)))
}

/// Takes a [`buffer`] that nobody needs any more, for the next who asks for a large one.
pub fn give_back(mut octets: Vec<u8>) {
    if octets.capacity() < OWN_MAPPING || octets.len() > MOST_SPARE {
        return;
    }
    octets.clear();
    let mut spares = spares();
    if spares.len() < SPARE {
        spares.push(octets);
    }
}

fn spares() -> MutexGuard<'static, Vec<Vec<u8>>> {
    SPARES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests may take of it and give meanwhile.
    #[test]
    fn what_is_given_back_is_empty_and_little() {
        for octets in [10, LARGE + 1, MOST_SPARE + 1, LARGE + 1, LARGE + 1] {
            let mut large = Vec::with_capacity(OWN_MAPPING);
            large.resize(octets, b'x');
            give_back(large);
            give_back(vec![b'x'; octets]);
        }
        let spares: Vec<_> = std::mem::take(&mut *spares());
        assert!(spares.len() <= SPARE);
        assert!(
            spares
                .iter()
                .all(|spare| spare.is_empty() && spare.capacity() >= OWN_MAPPING)
        );
        for octets in [0, LARGE, LARGE + 1, OWN_MAPPING, OWN_MAPPING + 1] {
            give_back(Vec::with_capacity(OWN_MAPPING));
            let room = buffer(octets);
            assert!(room.is_empty() && room.capacity() >= octets, "{octets}");
        }
    }
}

//! A zip archive of one stored file, as any mail program makes one.

/// The archive.
pub(crate) fn stored(name: &str, contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).unwrap().to_le_bytes();
    let name_length = u16::try_from(name.len()).unwrap().to_le_bytes();
    // Version 2.0, no flags, stored, 1 January 1980; checksum; both lengths.
    let common = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0],
        crc32(contents).to_le_bytes().as_slice(),
        &length,
        &length,
        &name_length,
        &[0, 0],
    ]
    .concat();
    let local = [b"PK\x03\x04", common.as_slice(), name.as_bytes(), contents].concat();
    let central = [
        b"PK\x01\x02\x14\x00",
        common.as_slice(),
        &[0; 14],
        name.as_bytes(),
    ]
    .concat();
    let sizes = [central.len(), local.len()].map(|size| u32::try_from(size).unwrap().to_le_bytes());
    let end = [
        b"PK\x05\x06\0\0\0\0\x01\0\x01\0".as_slice(),
        &sizes[0],
        &sizes[1],
        &[0, 0],
    ]
    .concat();
    [local, central, end].concat()
}

/// CRC-32 as in ISO 3309, bit by bit.
fn crc32(contents: &[u8]) -> u32 {
    !contents.iter().fold(!0_u32, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

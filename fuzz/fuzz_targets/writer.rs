//! Any octets as a mail on its way out and on its way in: what we write holds no CR or LF that
//! stands alone and ends once, what is read of it is what was given, and cuts change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sekimori::smtp::data::{DataFault, DataReader};
use sekimori::smtp::{BareNewline, StrayLineEnd, Writer, wire_data};
use sekimori_fuzz::within;

const LIMIT: u64 = 2048;

fuzz_target!(|input: &[u8]| {
    outward(input);
    for bare_newline in [BareNewline::Reject, BareNewline::Normalize] {
        inward(input, bare_newline);
    }
});

fn outward(mail: &[u8]) {
    let at = mail.len() / 3;
    let parts = [&mail[..at], &mail[at..2 * at], &mail[2 * at..]];
    let written = within(4 * mail.len() + 64, || wire_data(&[mail]));
    assert_eq!(written, wire_data(&parts));
    assert_eq!(written, octet_by_octet(mail));
    match (first_stray(mail), written) {
        (None, Ok(wire)) => sent(mail, &wire),
        (Some(at), Err(error)) => assert_eq!(error.at, at as u64),
        (stray, written) => panic!("stray: {stray:?}, but {written:?}"),
    }
}

fn octet_by_octet(mail: &[u8]) -> Result<Vec<u8>, StrayLineEnd> {
    let mut wire = Vec::new();
    let mut writer = Writer::new();
    for octet in mail.chunks(1) {
        writer.push(octet, &mut wire)?;
    }
    writer.finish(&mut wire)?;
    Ok(wire)
}

fn first_stray(octets: &[u8]) -> Option<usize> {
    (0..octets.len()).find(|&at| match octets[at] {
        b'\r' => octets.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || octets[at - 1] != b'\r',
        _ => false,
    })
}

/// `wire` carries `mail`, and nothing but it.
fn sent(mail: &[u8], wire: &[u8]) {
    assert_eq!(first_stray(wire), None);
    assert!(wire.ends_with(b".\r\n"));
    let ends = wire.windows(5).filter(|part| part == b"\r\n.\r\n").count();
    assert_eq!(ends + usize::from(wire.starts_with(b".\r\n")), 1);
    let mut whole = mail.to_vec();
    if !mail.is_empty() && !mail.ends_with(b"\r\n") {
        whole.extend_from_slice(b"\r\n");
    }
    for bare_newline in [BareNewline::Reject, BareNewline::Normalize] {
        let mut reader = DataReader::new(bare_newline, whole.len() as u64);
        assert_eq!(reader.feed(&[wire, b"QUIT\r\n"].concat()), wire.len());
        assert!(reader.is_done());
        assert_eq!(reader.finish().as_ref(), Ok(&whole));
    }
}

fn inward(wire: &[u8], bare_newline: BareNewline) {
    let mut reader = DataReader::new(bare_newline, LIMIT);
    let taken = within(4 * LIMIT as usize + 4096, || reader.feed(wire));
    let done = reader.is_done();
    assert_eq!(
        done,
        end_of(wire).is_some(),
        "the end is CRLF . CRLF and nothing else"
    );
    assert_eq!(taken, end_of(wire).unwrap_or(wire.len()));
    let mut again = DataReader::new(bare_newline, LIMIT);
    let by_octet = wire.chunks(1).map(|octet| again.feed(octet)).sum::<usize>();
    assert_eq!((taken, done), (by_octet, again.is_done()));
    let read = reader.finish();
    assert_eq!(read, again.finish());
    if !done {
        return;
    }
    match read {
        Ok(mail) => {
            assert!(mail.len() as u64 <= LIMIT);
            assert_eq!(first_stray(&mail), None);
            let sent_on = wire_data(&[&mail]).expect("whatever is stored can be sent on");
            sent(&mail, &sent_on);
            if bare_newline == BareNewline::Reject {
                assert_eq!(
                    sent_on,
                    wire_data(&[&unstuffed(&wire[..taken])]).expect("clean")
                );
            }
        }
        Err(DataFault::BareNewline) => {
            assert!(bare_newline == BareNewline::Reject && first_stray(&wire[..taken]).is_some());
        }
        Err(DataFault::TooBig) => assert!(2 * taken as u64 > LIMIT),
        Err(DataFault::NoRoom | DataFault::NotKept) => panic!("nobody abandoned it"),
    }
}

/// Where the data ends: behind the first line that is a dot alone, lines being cut at CRLF only.
fn end_of(wire: &[u8]) -> Option<usize> {
    if wire.starts_with(b".\r\n") {
        return Some(3);
    }
    let at = wire.windows(5).position(|part| part == b"\r\n.\r\n")?;
    Some(at + 5)
}

/// Clean data without its end and without the dots that were put before dots.
fn unstuffed(wire: &[u8]) -> Vec<u8> {
    let mut mail = Vec::new();
    for line in wire[..wire.len() - 3].split_inclusive(|&octet| octet == b'\n') {
        mail.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    mail
}

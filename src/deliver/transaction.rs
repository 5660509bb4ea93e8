//! One mail over an open connection: envelope, data, and the replies that may count.
//!
//! Contract: a recipient is accepted only when a reply says so that can be nobody else's; what is
//! unknown is `451`. From the last octet of the data until its reply an error is
//! [`ambiguous`](DeliverError::ambiguous).
//!
//! 8-bit mail goes to a next hop without 8BITMIME as it is; mail that needs SMTPUTF8 (a header or
//! local part beyond ASCII) is refused with `5.6.7` where the next hop lacks it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use super::client::{Connection, LAST_WORDS, Patience, Waiting, out_of_step};
use super::hop::Protocol;
use super::{Accepted, Content, DeliverError, Delivery, Outcome};
use crate::mail::Address;
use crate::smtp::{Reply, ServerReply, StrayLineEnd, Writer};

/// Octets of data written at once, each within the step time-out.
const CHUNK: usize = 64 * 1024;
/// Commands sent before their replies are read: both directions fit into socket buffers
/// (RFC 2920 3.1).
const PIPELINED: usize = 50;

impl Connection {
    /// One mail. One result for each recipient, in their order.
    pub(super) async fn transact(
        &mut self,
        delivery: &Delivery,
        patience: Patience,
    ) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; delivery.recipients.len()];
        self.begin();
        match self.attempt(delivery, patience, &mut outcomes).await {
            Ok(()) => self.in_step = true,
            Err(error) => settle(&mut outcomes, &Err(error)),
        }
        let missed = out_of_step("a recipient was left without a reply");
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| Err(missed.clone())))
            .collect()
    }

    /// Fills in `outcomes`. `Ok`: every command had its reply. An error is that of all recipients
    /// which have no result yet.
    async fn attempt(
        &mut self,
        delivery: &Delivery,
        patience: Patience,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), DeliverError> {
        let is_8bit = self.offers.eight_bit
            && (delivery.eight_bit || !is_ascii_body(&delivery.content).await?);
        let (mail, recipients) = match self.commands(delivery, is_8bit, outcomes) {
            Ok(commands) => commands,
            Err(error) => {
                settle(outcomes, &Err(error));
                return Ok(());
            }
        };
        let (accepted, data) = self.envelope(mail, recipients, patience, outcomes).await?;
        if accepted.is_empty() {
            // The next hop waits for a mail without a recipient.
            self.closing |= data.is_some_and(|reply| reply.code < 400);
            return Ok(());
        }
        let reply = match data {
            Some(reply) => reply,
            None => self.command("DATA", "DATA", patience).await?,
        };
        if reply.is_positive() {
            outcomes.fill(None);
            return Err(out_of_step("DATA was answered with 2yz"));
        }
        if reply.code != 354 {
            settle(outcomes, &Err(self.refused(reply, "DATA")));
            return Ok(());
        }
        self.data(&delivery.content, patience).await?;
        match self.settings.protocol {
            Protocol::Lmtp => {
                self.replies_of_each(&accepted, patience, outcomes).await?;
            }
            Protocol::Smtp => {
                let reply = self.reply("the data", patience).await.map_err(ambiguous)?;
                settle(outcomes, &self.outcome(reply));
            }
        }
        self.is_reset = true;
        Ok(())
    }

    /// `MAIL` and each recipient's `RCPT`; a recipient that cannot be named has its result.
    fn commands(
        &self,
        delivery: &Delivery,
        is_8bit: bool,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(String, Vec<(usize, String)>), DeliverError> {
        let content = &delivery.content;
        let is_ascii = |octets: &[u8]| octets.is_ascii();
        let header_utf8 = !content.head.is_ascii() || !content.header().into_iter().all(is_ascii);
        if delivery.smtputf8 && header_utf8 && !self.offers.smtputf8 {
            return Err(no_smtputf8(554));
        }
        let mut needs_utf8 = delivery.smtputf8 && header_utf8;
        let sender = match delivery.sender.address() {
            None => Cow::default(),
            Some(address) => self.path(address, &mut needs_utf8)?,
        };
        let mut recipients = Vec::with_capacity(delivery.recipients.len());
        for (index, recipient) in delivery.recipients.iter().enumerate() {
            match self.path(&recipient.address, &mut needs_utf8) {
                Ok(path) => recipients.push((index, ["RCPT TO:<", &path, ">"].concat())),
                Err(error) => fill(outcomes, index, Err(error)),
            }
        }
        let mut mail = ["MAIL FROM:<", &sender, ">"].concat();
        if self.offers.size {
            let _ = write!(mail, " SIZE={}", content.size());
        }
        if self.offers.eight_bit && (is_8bit || header_utf8) {
            mail.push_str(" BODY=8BITMIME");
        }
        if self.offers.smtputf8 && (needs_utf8 || delivery.smtputf8) {
            mail.push_str(" SMTPUTF8");
        }
        Ok((mail, recipients))
    }

    /// An address as a path says it: a domain beyond ASCII as A-labels where SMTPUTF8 is lacking.
    fn path<'a>(
        &self,
        address: &'a Address,
        needs_utf8: &mut bool,
    ) -> Result<Cow<'a, str>, DeliverError> {
        let text = address.as_str();
        if text
            .chars()
            .any(|c| c.is_control() || matches!(c, '<' | '>'))
        {
            return Err(DeliverError::new(
                Reply::new(553, 1, 3, "the address cannot be written in a path"),
                "an address with a control character or an angle bracket",
            ));
        }
        if text.is_ascii() {
            return Ok(text.into());
        }
        if self.offers.smtputf8 {
            *needs_utf8 = true;
            return Ok(text.into());
        }
        match idna::domain_to_ascii(address.domain()) {
            Ok(domain) if address.local().is_ascii() => {
                Ok(format!("{}@{domain}", address.local()).into())
            }
            _ => Err(no_smtputf8(553)),
        }
    }

    /// Sends the envelope. The recipients that were accepted, and the reply to `DATA` where that went
    /// with the last of them (RFC 2920 3.1).
    async fn envelope(
        &mut self,
        mail: String,
        recipients: Vec<(usize, String)>,
        patience: Patience,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(Vec<usize>, Option<ServerReply>), DeliverError> {
        let mut accepted = Vec::with_capacity(recipients.len());
        let Some((last, _)) = recipients.last().cloned() else {
            return Ok((accepted, None));
        };
        let commands: Vec<_> = std::iter::once((None, mail))
            .chain(
                recipients
                    .into_iter()
                    .map(|(index, rcpt)| (Some(index), rcpt)),
            )
            .collect();
        let batch = if self.offers.pipelining { PIPELINED } else { 1 };
        for commands in commands.chunks(batch) {
            let mut wire = String::new();
            for (_, command) in commands {
                wire.push_str(command);
                wire.push_str("\r\n");
            }
            let ends = commands
                .last()
                .is_some_and(|(index, _)| *index == Some(last));
            let with_data = self.offers.pipelining && ends;
            if with_data {
                wire.push_str("DATA\r\n");
            }
            self.write("the envelope", wire.as_bytes(), patience)
                .await?;
            let mut refusal = None;
            for (index, _) in commands {
                let reply = self.reply("the envelope", patience).await?;
                match index {
                    None if reply.is_positive() => {}
                    None => refusal = Some(self.refused(reply, "MAIL")),
                    Some(index) if reply.is_positive() => accepted.push(*index),
                    Some(index) => fill(outcomes, *index, Err(self.refused(reply, "RCPT"))),
                }
            }
            let refused = refusal.is_some();
            if let Some(refusal) = refusal {
                accepted.clear();
                outcomes.fill(None);
                settle(outcomes, &Err(refusal));
            }
            if with_data {
                let data = match self.reply("DATA", patience).await {
                    Err(error) if !accepted.is_empty() => return Err(error),
                    // All have their results, whatever follows.
                    Err(_) => {
                        self.closing = true;
                        None
                    }
                    Ok(reply) => Some(reply),
                };
                return Ok((accepted, data));
            }
            if refused {
                break;
            }
        }
        Ok((accepted, None))
    }

    /// Sends the message and its end.
    async fn data(&mut self, content: &Content, patience: Patience) -> Result<(), DeliverError> {
        let mut writer = Writer::new();
        let mut wire = Vec::with_capacity(CHUNK + CHUNK / 8);
        for piece in content.pieces() {
            self.piece(piece, &mut writer, &mut wire, patience).await?;
        }
        let mut at = content.rest();
        while at < content.message.size() {
            let piece = content
                .message
                .fetch(at)
                .await
                .map_err(|error| unreadable(&error))?;
            self.piece(&piece, &mut writer, &mut wire, patience).await?;
            at = at.saturating_add(piece.len() as u64);
        }
        writer.finish(&mut wire).map_err(stray)?;
        match self.write("the end of the data", &wire, patience).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.last_words().await.unwrap_or(ambiguous(error))),
        }
    }

    /// Sends some of the message, but for a remainder that is left in `wire`.
    async fn piece(
        &mut self,
        piece: &[u8],
        writer: &mut Writer,
        wire: &mut Vec<u8>,
        patience: Patience,
    ) -> Result<(), DeliverError> {
        for chunk in piece.chunks(CHUNK / 2) {
            writer.push(chunk, wire).map_err(stray)?;
            if wire.len() >= CHUNK / 2 {
                if let Err(error) = self.write("the data", wire, patience).await {
                    return Err(self.last_words().await.unwrap_or(error));
                }
                wire.clear();
            }
        }
        Ok(())
    }

    /// A next hop that hangs up in the middle of the data has often said why.
    async fn last_words(&mut self) -> Option<DeliverError> {
        let patience = Patience {
            step: LAST_WORDS,
            until: None,
        };
        let reply = self.reply("the data", patience).await.ok()?;
        (reply.code >= 400).then(|| self.refused(reply, "the data"))
    }

    /// The replies after the data, one for each accepted recipient (RFC 2033 4.2).
    async fn replies_of_each(
        &mut self,
        accepted: &[usize],
        patience: Patience,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), DeliverError> {
        let mut all_positive = true;
        for &index in accepted {
            let reply = self.reply("the data", patience).await.map_err(ambiguous)?;
            all_positive &= reply.is_positive();
            let outcome = self.outcome(reply);
            fill(outcomes, index, outcome);
        }
        let waiting = self.waiting().await;
        self.closing |= waiting == Waiting::End;
        if self.parser.is_at_rest() && waiting != Waiting::Octets {
            return Ok(());
        }
        if !all_positive {
            for &index in accepted {
                let error = ambiguous(out_of_step("more replies than recipients"));
                fill(outcomes, index, Err(error));
            }
        }
        Err(out_of_step("more replies than recipients"))
    }

    fn outcome(&mut self, reply: ServerReply) -> Outcome {
        if !reply.is_positive() {
            let ambiguous = reply.code < 400;
            let error = self.refused(reply, "the data");
            return Err(DeliverError { ambiguous, ..error });
        }
        Ok(Accepted {
            place: self.settings.place(),
            reply: Some(reply.into()),
            repeated: false,
        })
    }
}

/// The mail was in a file that cannot be read.
fn unreadable(error: &io::Error) -> DeliverError {
    let reply = Reply::new(451, 3, 0, "the mail cannot be read now");
    DeliverError::new(reply, format!("reading the mail: {error}"))
}

async fn is_ascii_body(content: &Content) -> Result<bool, DeliverError> {
    let mut at = content.rest();
    let mut is_ascii = content.split().1.is_ascii();
    while is_ascii && at < content.message.size() {
        let piece = content
            .message
            .fetch(at)
            .await
            .map_err(|error| unreadable(&error))?;
        is_ascii = piece.is_ascii();
        at = at.saturating_add(piece.len() as u64);
    }
    Ok(is_ascii)
}

fn fill(outcomes: &mut [Option<Outcome>], index: usize, outcome: Outcome) {
    if let Some(slot) = outcomes.get_mut(index) {
        *slot = Some(outcome);
    }
}

/// The result of all that have none yet.
fn settle(outcomes: &mut [Option<Outcome>], outcome: &Outcome) {
    for slot in outcomes.iter_mut().filter(|slot| slot.is_none()) {
        *slot = Some(outcome.clone());
    }
}

fn no_smtputf8(code: u16) -> DeliverError {
    DeliverError::new(
        Reply::new(code, 6, 7, "the next hop does not offer SMTPUTF8"),
        "SMTPUTF8 is needed and not offered",
    )
}

fn stray(error: StrayLineEnd) -> DeliverError {
    DeliverError::new(
        Reply::new(550, 6, 11, "a CR or LF stands alone in the mail"),
        error.to_string(),
    )
}

fn ambiguous(error: DeliverError) -> DeliverError {
    DeliverError {
        ambiguous: true,
        ..error
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::deliver::{Endpoint, HopSettings, Recipient, Tls};
    use crate::mail::ReversePath;

    fn hop(protocol: Protocol) -> HopSettings {
        HopSettings {
            protocol,
            endpoint: Endpoint::Unix("unused".into()),
            hostname: "mx.example".to_owned(),
            tls: Tls::None,
            auth: None,
            timeout: Duration::from_secs(5),
            max_connections: 1,
        }
    }

    fn delivery(recipients: usize) -> Delivery {
        let address = Address::parse("a@y.example").unwrap();
        Delivery {
            sender: ReversePath::Null,
            recipients: vec![
                Recipient {
                    address: address.clone(),
                    mailbox: address,
                    maybe_there: false,
                    key: "0".repeat(32),
                };
                recipients
            ],
            content: Content::new(Vec::new(), Bytes::from_static(b"A: b\r\n\r\nc\r\n"), 8),
            smtputf8: false,
            eight_bit: false,
            deadline: None,
            under_way: None,
        }
    }

    /// What a next hop gets after its `354`.
    async fn sent(content: Content) -> String {
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        theirs
            .write_all(b"250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n")
            .await
            .unwrap();
        theirs.shutdown().await.unwrap();
        let mut connection = Connection::over(Box::new(ours), hop(Protocol::Lmtp));
        connection.offers.eight_bit = true;
        let patience = Patience {
            step: Duration::from_secs(5),
            until: None,
        };
        let delivery = Delivery {
            content,
            ..delivery(1)
        };
        connection.transact(&delivery, patience).await[0]
            .as_ref()
            .unwrap();
        drop(connection);
        let mut said = String::new();
        theirs.read_to_string(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn a_mail_that_is_not_in_memory_is_sent_the_same() {
        for raw in [
            "A: b\r\n\r\n.line\r\n..\r\n.\r\nmore than one piece of it\r\n",
            "A: b\r\n\r\nline\r\nsome more text without an end and with é",
        ] {
            let octets = crate::mail::octets::tests::stored(raw.as_bytes(), 0);
            assert!(octets.head().len() < raw.len());
            let head = b"Received: here\r\n".to_vec();
            let elsewhere = sent(Content::new(head.clone(), octets, 8)).await;
            let in_memory = sent(Content::new(head, raw.to_owned(), 8)).await;
            assert_eq!(elsewhere, in_memory);
            assert_eq!(elsewhere.contains("BODY=8BITMIME"), !raw.is_ascii());
        }
    }

    /// Everything that the next hop will ever say stands ready from the start.
    fn run(protocol: Protocol, said: &[u8], recipients: usize) -> (Vec<Outcome>, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
            theirs.write_all(said).await.unwrap();
            theirs.shutdown().await.unwrap();
            let server = tokio::spawn(async move { theirs.read_to_end(&mut Vec::new()).await });
            let mut connection = Connection::over(Box::new(ours), hop(protocol));
            let patience = Patience {
                step: Duration::from_secs(5),
                until: None,
            };
            let outcomes = connection.transact(&delivery(recipients), patience).await;
            let in_step = connection.is_in_step();
            drop(connection);
            server.await.unwrap().unwrap();
            (outcomes, in_step)
        })
    }

    /// Where a 3yz stands for another reply nobody knows whose the next one is.
    #[test]
    fn a_connection_with_a_reply_out_of_place_is_not_used_again() {
        let (ok, go) = ("250 ok\r\n", "354 go\r\n");
        let rows: &[(&[&str], bool)] = &[
            (&[go, ok], false),
            (&[ok, go], false),
            (&[ok, ok, "334 \r\n"], false),
            (&[ok, ok, go, go], true),
        ];
        for (said, in_doubt) in rows {
            for protocol in [Protocol::Lmtp, Protocol::Smtp] {
                let (outcomes, in_step) = run(protocol, said.concat().as_bytes(), 1);
                let error = outcomes[0].as_ref().unwrap_err();
                assert_eq!((error.ambiguous, in_step), (*in_doubt, false), "{said:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_is_accepted_without_a_reply_of_his_own(
            said in proptest::collection::vec(
                prop_oneof![
                    4 => Just("250 ok\r\n"), 2 => Just("354 go\r\n"), 1 => Just("550 no\r\n"),
                    1 => Just("451 later\r\n"), 1 => Just("250-a\r\n"), 1 => Just("x\r\n"),
                ],
                0..12,
            ),
            recipients in 1usize..4,
            lmtp in any::<bool>(),
        ) {
            let protocol = if lmtp { Protocol::Lmtp } else { Protocol::Smtp };
            let (outcomes, in_step) = run(protocol, said.concat().as_bytes(), recipients);
            prop_assert_eq!(outcomes.len(), recipients);
            let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            let ambiguous = outcomes.iter().any(|o| o.as_ref().is_err_and(|error| error.ambiguous));
            let before = 1 + recipients;
            if said.get(before) != Some(&"354 go\r\n") && !said.contains(&"250-a\r\n") {
                prop_assert_eq!((accepted, ambiguous), (0, false));
            }
            let finals = said.iter().skip(before + 1).filter(|text| text.starts_with("250")).count();
            if lmtp {
                prop_assert!(accepted <= finals);
            } else {
                prop_assert!(accepted == 0 || finals > 0);
            }
            prop_assert!(!(ambiguous && in_step));
        }

        #[test]
        fn any_octets(said in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (outcomes, _) = run(Protocol::Lmtp, &said, 2);
            prop_assert!(outcomes.iter().all(Result::is_err));
        }
    }
}

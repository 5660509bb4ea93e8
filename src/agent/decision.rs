//! The decision for each mailbox of one mail that no earlier hand-off brought: screened, scanned once
//! where one of them wants that, decided.

use std::sync::Arc;
use std::time::Instant;

use super::{Agent, Question, Scanners, Share, Wanted, bounds, off_the_reactor};
use crate::deliver::loops;
use crate::execute::{Mail, Scanned, Task};
use crate::policy::Screening;
use crate::smtp::{Answer, Reply};
use crate::store::Id;

/// How far one look at a mail comes.
pub(super) enum First {
    /// No scanner must be asked.
    Decided(Vec<Decided>),
    /// One must.
    Screened(Vec<Screened>, Wanted),
}

impl Agent {
    /// The decision for all shares that were looked at: scanned once where one of them wants that.
    /// Nothing where that panicked.
    pub(super) async fn decided(
        &self,
        scanners: &Scanners,
        mail: &Arc<Mail>,
        shares: &Arc<[Share]>,
        first: First,
    ) -> Vec<Decided> {
        let (screened, wanted) = match first {
            First::Decided(decided) => return decided,
            First::Screened(screened, wanted) => (screened, wanted),
        };
        let scanned = Arc::new(scanned(scanners, mail, &screened, wanted).await);
        let store = self.executor.store().clone();
        let (of, all) = (mail.clone(), shares.clone());
        let second = move || {
            let _reading = store.reading(&of.digest, of.received_at);
            decide_all(&of, &all, screened, &scanned)
        };
        off_the_reactor(second).await.unwrap_or_default()
    }
}

/// As far as the decision comes without a scanner, for the shares without an earlier answer.
pub(super) fn first(
    mail: &Mail,
    shares: &[Share],
    earlier: &[Option<Answer>],
    loop_secret: &[u8; 32],
    scanners: &Scanners,
) -> First {
    let open = shares.iter().enumerate().zip(earlier);
    let screened: Vec<Screened> = open
        .filter(|(_, earlier)| earlier.is_none())
        .map(|((place, share), _)| screen(mail, place, share, loop_secret))
        .collect();
    let wanted = screened
        .iter()
        .map(|one| Wanted::of(&one.screening))
        .fold(Wanted::default(), Wanted::or);
    if scanners.must_ask(wanted) {
        return First::Screened(screened, wanted);
    }
    let readable = (!mail.unread).then_some(mail.raw.head().as_ref());
    let scanned = scanners.upstream(readable, mail.envelope.client.trusted);
    First::Decided(decide_all(mail, shares, screened, &Arc::new(scanned)))
}

async fn scanned(
    scanners: &Scanners,
    mail: &Mail,
    screened: &[Screened],
    wanted: Wanted,
) -> Scanned {
    let name = screened.first().map(|first| first.id.to_string());
    let bounds = bounds(&mail.config.server.limits);
    let question = Question {
        envelope: &mail.envelope,
        message: &mail.message,
        raw: &mail.raw,
        bounds: Some(&bounds).filter(|_| !mail.unread),
        hostname: &mail.config.server.hostname,
        name: name.as_deref().unwrap_or_default(),
    };
    scanners.ask(&question, wanted, scan_end(mail)).await
}

/// When scanners must have answered: half of `timeouts.final_reply` is for what comes after.
fn scan_end(mail: &Mail) -> Instant {
    let rest = mail.config.server.timeouts.final_reply / 2;
    mail.late.checked_sub(rest).unwrap_or(mail.late)
}

/// A share whose mail went through stages 1-4.
pub(super) struct Screened {
    /// Its place among the shares.
    place: usize,
    id: Id,
    looping: bool,
    screening: Screening,
}

/// A share's place and its decision, or the reply where its mail is put off.
pub(super) type Decided = (usize, Result<Task, Reply>);

fn screen(mail: &Mail, place: usize, share: &Share, loop_secret: &[u8; 32]) -> Screened {
    let looping = loops::is_marked(&mail.message.header, loop_secret, &share.mailbox.key);
    let arrival = mail.arrival(&share.recipient, looping);
    let policy = &share.mailbox.policy;
    Screened {
        place,
        id: Id::new(mail.received_at),
        looping,
        screening: match mail.unread {
            true => Screening::Passed(policy.unread()),
            false => policy.screen(&mail.message, &arrival),
        },
    }
}

fn decide_all(
    mail: &Mail,
    shares: &[Share],
    screened: Vec<Screened>,
    scanned: &Arc<Scanned>,
) -> Vec<Decided> {
    screened
        .into_iter()
        .filter_map(|one| {
            let share = shares.get(one.place)?;
            Some((one.place, task(mail, share, one, scanned)))
        })
        .collect()
}

fn task(
    mail: &Mail,
    share: &Share,
    screened: Screened,
    scanned: &Arc<Scanned>,
) -> Result<Task, Reply> {
    let plan = match screened.screening {
        Screening::Settled(plan) => *plan,
        Screening::Passed(passed) => {
            if let Some(stage) = passed.put_off(&scanned.report) {
                let text = format!("{} scanner unavailable", stage.as_str());
                return Err(Reply::new(451, 3, 0, &text));
            }
            let arrival = mail.arrival(&share.recipient, screened.looping);
            let policy = &share.mailbox.policy;
            match mail.unread {
                true => policy.decide_unread(&scanned.report),
                false => policy.decide(&mail.message, &arrival, passed, &scanned.report),
            }
        }
    };
    Ok(Task {
        id: screened.id,
        recipient: share.recipient.clone(),
        mailbox: share.mailbox.clone(),
        scanned: scanned.clone(),
        plan,
        looping: screened.looping,
        key: share.key,
    })
}

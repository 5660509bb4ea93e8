//! The daily notices of held mail (`spam.notice: daily`): one round a day, at
//! `quarantine.notice.daily_at`, over the mailboxes that hold mail.
//!
//! A round that a stop or a crash cut short goes on at the next start; one that was missed comes
//! late. Who was told how far is in the commit that queues his notice ([`Store::told`]), so that no
//! mail is told of as new twice, or never.

use std::sync::Arc;
use std::time::Duration;

use jiff::{ToSpan, Zoned};

use super::{Shared, now};
use crate::config::{Lookup, Mailbox, NoticeTime, SpamNotice};
use crate::execute::letters::{self, DAY};
use crate::mail::Address;
use crate::mail::notice::{Count, Daily, HeldAs, LISTED};
use crate::policy::Class;
use crate::store::{
    Batch, FileEntry, Holder, Id, MailHeader, OutgoingItem, OutgoingKind, QuarantineEntry,
    QuarantineState, Shelf, Store, StoreError, Told, blocking,
};

/// A reload may change the time of day, and a suspended machine may lose time: look so often.
const LOOK: Duration = Duration::from_secs(1);
/// Before a round that failed is taken up again.
const TROUBLE: Duration = Duration::from_secs(60);
/// A round waits while so many mails are on their way out: half of the queue is for mail.
const QUEUE: u64 = 50_000;
/// Beyond so many of one mailbox it is told nothing today; what is new is new tomorrow too.
const QUEUE_OF_A_MAILBOX: u64 = 10_000;

/// A store that knows of no round begins with the next one. To be called before any mail comes in.
pub(super) async fn begin(store: &Store, notice: &NoticeTime) {
    let Some((at, next)) = around(notice, now()) else {
        return;
    };
    let store = store.clone();
    let begun = blocking(move || match store.last_round()? {
        Some(_) => Ok(false),
        None => end(&store, at).map(|()| true),
    });
    match begun.await {
        Ok(true) => {
            let next = crate::view::time(next);
            tracing::info!(%next, "the daily notices begin");
        }
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "daily notices"),
    }
}

/// The round of that moment is over.
fn end(store: &Store, at: i64) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put_round(at);
    store.commit_blocking(batch)
}

/// Tells owners once a day what is held for them.
pub(super) async fn daily(shared: Arc<Shared>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut done = None;
    loop {
        let notice = shared.active().config.quarantine.notice.clone();
        let mut pause = LOOK;
        if let Some(moments) = around(&notice, now())
            && done != Some(moments.0)
        {
            match round(&shared, moments).await {
                Ok(()) => done = Some(moments.0),
                Err(error) => {
                    tracing::error!(%error, "daily notices");
                    pause = TROUBLE;
                }
            }
        }
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The last and the next moment that is `daily_at`, unix milliseconds. A time that a change of the
/// clock leaves out comes an hour later, one that it repeats counts the first time.
fn around(notice: &NoticeTime, now: i64) -> Option<(i64, i64)> {
    let today = crate::view::zoned(now, &notice.timezone).date();
    let day = |offset: i64| {
        let date = today.saturating_add(offset.days());
        let moment = date.to_datetime(notice.daily_at);
        let zoned: Zoned = moment.to_zoned(notice.timezone.clone()).ok()?;
        Some(zoned.timestamp().as_millisecond())
    };
    match day(0)? {
        at if at <= now => Some((at, day(1)?)),
        at => Some((day(-1)?, at)),
    }
}

/// What is to be done about the round of a moment.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// Tell whom it has not told.
    Tell,
    /// It is over.
    Over,
    /// It counts as over: none is known, or the clock was far ahead at the last one.
    Skip,
}

/// `last` is the last round that was over, `at` the moment that has come last.
fn due(last: Option<i64>, at: i64, now: i64) -> Round {
    match last {
        None => Round::Skip,
        Some(last) if last > now.saturating_add(DAY) => Round::Skip,
        Some(last) if last >= at => Round::Over,
        Some(_) => Round::Tell,
    }
}

async fn round(shared: &Arc<Shared>, (at, next): (i64, i64)) -> Result<(), StoreError> {
    let store = shared.store.clone();
    let told = match blocking(move || Ok(due(store.last_round()?, at, now()))).await? {
        Round::Over => return Ok(()),
        Round::Skip => None,
        Round::Tell => match tell_all(shared, at, next).await? {
            None => return Ok(()),
            told => told,
        },
    };
    let store = shared.store.clone();
    blocking(move || {
        store.forget_told()?;
        end(&store, at)
    })
    .await?;
    let next = crate::view::time(next);
    match told {
        Some(notices) => tracing::info!(notices, %next, "the daily notices are queued"),
        None => tracing::info!(%next, "the daily notices begin"),
    }
    Ok(())
}

/// How many were told; `None` when the daemon stops, and the next start goes on.
async fn tell_all(shared: &Arc<Shared>, at: i64, next: i64) -> Result<Option<u64>, StoreError> {
    let (mut last, mut notices) = (None, 0);
    loop {
        if !room(shared).await {
            return Ok(None);
        }
        let shared = shared.clone();
        let found = blocking(move || {
            let Some(holder) = shared.store.next_holder(last)? else {
                return Ok(None);
            };
            let told = tell(&shared, holder, at, next).or_else(of_one)?;
            Ok(Some((holder, told)))
        });
        let Some((holder, told)) = found.await? else {
            return Ok(Some(notices));
        };
        last = Some(holder);
        notices += u64::from(told);
    }
}

/// What fails for one mailbox keeps no other from its notice; what fails for all ends the round.
fn of_one(error: StoreError) -> Result<bool, StoreError> {
    match error {
        StoreError::TooLarge(_)
        | StoreError::NotFound(_)
        | StoreError::Conflict(_)
        | StoreError::Damaged(_) => {
            tracing::error!(%error, "left out: a daily notice");
            Ok(false)
        }
        error => Err(error),
    }
}

/// Waits until the queue has room; `false` when the daemon stops.
async fn room(shared: &Shared) -> bool {
    let mut stopping = shared.stopping.clone();
    loop {
        if *stopping.borrow() {
            return false;
        }
        if shared.store.outgoing_count() < QUEUE {
            return true;
        }
        tokio::select! {
            _ = stopping.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Tells one owner, unless this round has told him, or there is nothing to tell; whether it did.
fn tell(shared: &Shared, holder: Holder, at: i64, next: i64) -> Result<bool, StoreError> {
    let store = &shared.store;
    let told = store.told(holder)?;
    if told.is_some_and(|told| told.round == at) {
        return Ok(false);
    }
    let Some((mailbox, owner)) = owner(shared, holder)? else {
        return Ok(false);
    };
    if owner.spam_notice != SpamNotice::Daily {
        return Ok(false);
    }
    if store.outgoing_count_of(&mailbox) >= QUEUE_OF_A_MAILBOX {
        tracing::warn!(
            mailbox,
            "left out: a daily notice, its outgoing queue is full"
        );
        return Ok(false);
    }
    let upto = store.commits()?;
    let now = now();
    let seen = Seen {
        upto,
        told: told.map(|told| told.commit),
        now,
        gone: next.max(now.saturating_add(DAY)),
    };
    let daily = seen.look(store, holder, &owner)?;
    if daily.new_count() == 0 && daily.expiring_count == 0 {
        return Ok(false);
    }
    let told = Told {
        commit: upto,
        round: at,
    };
    queue(shared, mailbox, holder, &owner, &daily, told, now)?;
    Ok(true)
}

/// Whose mail it is, by name and settings; `None` when nobody has that name any more.
fn owner(shared: &Shared, holder: Holder) -> Result<Option<(String, Arc<Mailbox>)>, StoreError> {
    let mut held = shared.store.held_by(holder).filter_map(readable);
    let Some((_, entry)) = held.next().transpose()? else {
        return Ok(None);
    };
    let Ok(address) = Address::parse(&entry.mailbox) else {
        return Ok(None);
    };
    match shared.active().directory.lookup(&address) {
        Lookup::Found(owner) => Ok(Some((entry.mailbox, owner))),
        Lookup::Unavailable(why) => {
            tracing::warn!(mailbox = entry.mailbox, why, "left out: a daily notice");
            Ok(None)
        }
        Lookup::UnknownDomain | Lookup::UnknownMailbox => Ok(None),
    }
}

/// One damaged entry keeps no owner from hearing of the others.
fn readable<T>(read: Result<T, StoreError>) -> Option<Result<T, StoreError>> {
    match read {
        Err(StoreError::Damaged(what)) => {
            tracing::error!(what, "a held mail that no notice can tell of");
            None
        }
        read => Some(read),
    }
}

/// From where a mailbox is looked at.
struct Seen {
    /// The last commit that is looked at.
    upto: u64,
    /// The last commit that its owner was told of.
    told: Option<u64>,
    now: i64,
    /// What goes up to then goes within a day, or before the next round on a day of 25 hours.
    gone: i64,
}

impl Seen {
    /// What its owner is to be told. Takes memory for the entries that are listed.
    fn look(&self, store: &Store, holder: Holder, owner: &Mailbox) -> Result<Daily, StoreError> {
        let counts = owner.notice_includes.iter().filter_map(|class| {
            let held_as = held_as(*class)?;
            let (new, held) = (0, 0);
            Some(Count { held_as, new, held })
        });
        let mut daily = Daily {
            counts: counts.collect(),
            ..Daily::default()
        };
        for read in store.held_by(holder).filter_map(readable) {
            let (commit, entry) = read?;
            let waits = entry.state == QuarantineState::Held && entry.expires_at > self.now;
            if commit <= self.upto && waits {
                self.add(&mut daily, commit, &entry, owner);
            }
        }
        Ok(daily)
    }

    fn add(&self, daily: &mut Daily, commit: u64, entry: &QuarantineEntry, owner: &Mailbox) {
        let class = [Class::Spam, Class::UserRule].into_iter();
        let mut class = class.filter(|class| class.as_str() == entry.class);
        let held_as = class.next().and_then(held_as);
        let mut counts = daily.counts.iter_mut();
        let Some(count) = counts.find(|count| Some(count.held_as) == held_as) else {
            return;
        };
        let is_new = self.told.is_none_or(|told| commit > told);
        let expiring = entry.expires_at <= self.gone;
        count.held += 1;
        count.new += u64::from(is_new);
        daily.expiring_count += u64::from(expiring && !is_new);
        let list = match (is_new, expiring) {
            (true, _) => &mut daily.new,
            (false, true) => &mut daily.expiring,
            (false, false) => return,
        };
        if list.len() < LISTED {
            list.push(letters::held_entry(entry, &owner.timezone, expiring));
        }
    }
}

/// `None` for what no notice tells of: of a virus its report has told.
fn held_as(class: Class) -> Option<HeldAs> {
    match class {
        Class::Spam => Some(HeldAs::Spam),
        Class::UserRule => Some(HeldAs::UserRule),
        Class::Virus => None,
    }
}

/// Queues the notice and marks its owner as told, in one commit.
fn queue(
    shared: &Shared,
    mailbox: String,
    holder: Holder,
    owner: &Mailbox,
    daily: &Daily,
    told: Told,
    now: i64,
) -> Result<(), StoreError> {
    let (active, id) = (shared.active(), Id::new(now));
    let bytes = letters::daily_notice(&active.config, owner, id, now, daily);
    let give_up = active.config.relay.retry.give_up;
    let (kind, to) = (OutgoingKind::QuarantineNotice, vec![mailbox.clone()]);
    let item = OutgoingItem::new(id, kind, mailbox, to, now, give_up);
    let header = MailHeader {
        sender: String::new(),
        client: "daily notice".into(),
        trace: String::new(),
        received_at: now,
        entries: vec![FileEntry::Outgoing(item.clone())],
    };
    let store = &shared.store;
    store.write_mail(&header, &[&bytes])?;
    let mut batch = Batch::new();
    batch.put_outgoing(&item).put_told(holder, told);
    let queued = store.commit_blocking(batch);
    if let Err(error) = &queued
        && !matches!(error, StoreError::InDoubt(_))
    {
        store.remove_mail(Shelf::Outgoing, id)?;
    }
    shared.courier.wake();
    queued
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn the_day_is_that_of_the_time_zone() {
        let tokyo = ("Asia/Tokyo", (7, 0));
        let berlin = ("Europe/Berlin", (2, 30));
        let rows = [
            (
                tokyo,
                "2026-11-21T21:59:59Z",
                "2026-11-20T22:00:00Z",
                "2026-11-21T22:00:00Z",
            ),
            (
                tokyo,
                "2026-11-21T22:00:00Z",
                "2026-11-21T22:00:00Z",
                "2026-11-22T22:00:00Z",
            ),
            (
                tokyo,
                "2026-11-22T12:00:00Z",
                "2026-11-21T22:00:00Z",
                "2026-11-22T22:00:00Z",
            ),
            // 02:30 is left out on 29 March: it comes at 03:30.
            (
                berlin,
                "2026-03-29T01:29:59Z",
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:30:00Z",
            ),
            (
                berlin,
                "2026-03-29T01:30:00Z",
                "2026-03-29T01:30:00Z",
                "2026-03-30T00:30:00Z",
            ),
            // 02:30 comes twice on 25 October: the first counts.
            (
                berlin,
                "2026-10-25T00:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z",
            ),
            (
                berlin,
                "2026-10-25T01:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z",
            ),
            // A day that a zone left out: 30 December 2011.
            (
                ("Pacific/Apia", (7, 0)),
                "2011-12-30T20:00:00Z",
                "2011-12-30T17:00:00Z",
                "2011-12-31T17:00:00Z",
            ),
        ];
        for ((zone, (hour, minute)), now, last, next) in rows {
            let notice = NoticeTime {
                daily_at: jiff::civil::time(hour, minute, 0, 0),
                timezone: jiff::tz::TimeZone::get(zone).unwrap(),
            };
            let expected = Some((millis(last), millis(next)));
            assert_eq!(around(&notice, millis(now)), expected, "{zone} {now}");
        }
    }

    #[test]
    fn each_moment_has_one_round() {
        let (yesterday, at, now) = (0, DAY, DAY + 5);
        for (last, expected) in [
            (None, Round::Skip),
            (Some(yesterday), Round::Tell),
            (Some(at - 1), Round::Tell),
            (Some(at), Round::Over),
            // `daily_at` was later before, or the clock was put back.
            (Some(at + 1), Round::Over),
            (Some(now + DAY), Round::Over),
            // Nobody waits for a year because the clock was ahead for a moment.
            (Some(now + DAY + 1), Round::Skip),
        ] {
            assert_eq!(due(last, at, now), expected, "{last:?}");
        }
    }
}

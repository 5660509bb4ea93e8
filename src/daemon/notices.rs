//! The daily notices of held mail (`spam.notice: daily`): one round a day, at
//! `quarantine.notice.daily_at`, over the mailboxes that hold mail.
//!
//! A round that a stop or a crash cut short goes on at the next start; one that was missed comes
//! late. Who was told how far is in the commit that queues his notice ([`Store::told`]), so that no
//! mail is told of as new twice, or never.

mod schedule;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use self::schedule::{Due, around, due};
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
    let commit = store.commits()?;
    let mut batch = Batch::new();
    batch.put_round(Told { commit, round: at });
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

/// One round.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// The `daily_at` that has come.
    at: i64,
    /// The one after it.
    next: i64,
    /// The commits that were there when the last round was over. A mark that is no later tells of
    /// another round, be it that of the same moment: the clock was ahead then.
    begun: u64,
}

impl Round {
    fn has_told(&self, told: Told) -> bool {
        told.round == self.at && told.commit > self.begun
    }
}

async fn round(shared: &Arc<Shared>, (at, next): (i64, i64)) -> Result<(), StoreError> {
    let store = shared.store.clone();
    let last = blocking(move || store.last_round()).await?;
    let begun = last.map_or(0, |last| last.commit);
    let told = match due(last.map(|last| last.round), at, now()) {
        Due::Over => return Ok(()),
        Due::Skip => None,
        Due::Tell => match tell_all(shared, Round { at, next, begun }).await? {
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
async fn tell_all(shared: &Arc<Shared>, round: Round) -> Result<Option<u64>, StoreError> {
    let (mut last, mut notices) = (None, 0);
    loop {
        if !room(shared).await {
            return Ok(None);
        }
        let store = shared.store.clone();
        let Some(holder) = blocking(move || store.next_holder(last)).await? else {
            return Ok(Some(notices));
        };
        let shared = shared.clone();
        let told = blocking(move || tell(&shared, holder, round)).await;
        let told = told.or_else(of_one)?;
        last = Some(holder);
        notices += u64::from(told);
    }
}

/// What fails (or panics) for one mailbox keeps no other from its notice; what fails for all ends the round.
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
fn tell(shared: &Shared, holder: Holder, round: Round) -> Result<bool, StoreError> {
    let store = &shared.store;
    let told = store.told(holder)?;
    if told.is_some_and(|told| round.has_told(told)) {
        return Ok(false);
    }
    let Some(owner) = owner(shared, holder)? else {
        return Ok(false);
    };
    let mailbox = &owner.key;
    if owner.spam_notice != SpamNotice::Daily {
        return Ok(false);
    }
    if store.outgoing_count_of(mailbox) >= QUEUE_OF_A_MAILBOX {
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
        gone: round.next.max(now.saturating_add(DAY)),
    };
    let Some(daily) = seen.look(store, holder, &owner, &shared.stopping)? else {
        return Ok(false);
    };
    if daily.new_count() == 0 && daily.expiring_count == 0 {
        return Ok(false);
    }
    let told = Told {
        commit: upto,
        round: round.at,
    };
    queue(shared, holder, &owner, &daily, told, now)?;
    Ok(true)
}

/// Whose mail it is: of a mailbox that has another name now, who has the old one as an alias.
/// `None` when nobody has that name any more.
fn owner(shared: &Shared, holder: Holder) -> Result<Option<Arc<Mailbox>>, StoreError> {
    let mut held = shared.store.held_by(holder).filter_map(readable);
    let Some((_, entry)) = held.next().transpose()? else {
        return Ok(None);
    };
    let Ok(address) = Address::parse(&entry.mailbox) else {
        return Ok(None);
    };
    match shared.active().directory.lookup(&address) {
        Lookup::Found(owner) => Ok(Some(owner)),
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
    /// What its owner is to be told; `None` when the daemon stops. Takes memory for the entries that
    /// are listed.
    fn look(
        &self,
        store: &Store,
        holder: Holder,
        owner: &Mailbox,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Option<Daily>, StoreError> {
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
            if *stopping.borrow() {
                return Ok(None);
            }
            let (commit, entry) = read?;
            let waits = entry.state == QuarantineState::Held && entry.expires_at > self.now;
            if commit <= self.upto && waits {
                self.add(&mut daily, commit, &entry, owner);
            }
        }
        Ok(Some(daily))
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
    holder: Holder,
    owner: &Mailbox,
    daily: &Daily,
    told: Told,
    now: i64,
) -> Result<(), StoreError> {
    let (active, id) = (shared.active(), Id::new(now));
    let bytes = letters::daily_notice(&active.config, owner, id, now, daily);
    let give_up = active.config.relay.retry.give_up;
    let address = &owner.policy.mailbox;
    let (kind, to) = (OutgoingKind::QuarantineNotice, vec![address.to_string()]);
    let item = OutgoingItem::new(id, kind, address.key(), to, now, give_up);
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

    #[test]
    fn a_round_that_the_clock_had_come_to_before_is_another() {
        let (at, next) = (5 * DAY, 6 * DAY);
        let round = Round {
            at,
            next,
            begun: 100,
        };
        for (commit, told_at, expected) in [
            // Before a crash in this round.
            (101, at, true),
            (100, at - DAY, false),
            (101, at - DAY, false),
            // The clock was days ahead, and was put back.
            (99, at, false),
            (100, at, false),
        ] {
            let told = Told {
                commit,
                round: told_at,
            };
            assert_eq!(round.has_told(told), expected, "{commit} {told_at}");
        }
    }
}

//! What happens by the clock: expiry, and the daily notice of held spam.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{ToSpan, Zoned};

use super::{Shared, now};
use crate::config::{Lookup, NoticeTime, SpamNotice};
use crate::execute::letters;
use crate::mail::Address;
use crate::mail::notice::{self, Count, Daily, HeldAs};
use crate::policy::Class;
use crate::store::{
    Batch, FileEntry, Id, MailHeader, OutgoingItem, OutgoingKind, QuarantineEntry,
    QuarantineFilter, QuarantineState, SeenKey, StoreError, blocking,
};

/// New entries may expire before anything known at the last look: look so often.
const LOOK: Duration = Duration::from_secs(1);
/// A day, in milliseconds.
const DAY: i64 = 86_400_000;

/// Removes what has expired, when it expires.
pub(super) async fn sweep(shared: Arc<Shared>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let started = Instant::now();
    loop {
        let store = shared.store.clone();
        let monotonic = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        match blocking(move || store.sweep(now(), monotonic)).await {
            Ok(swept) if swept.quarantine > 0 => {
                tracing::info!(quarantine = swept.quarantine, "expired")
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "expiry"),
        }
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let store = shared.store.clone();
            if matches!(blocking(move || store.next_expiry()).await, Ok(Some(at)) if at <= now()) {
                break;
            }
        }
    }
}

/// Tells owners once a day what spam was held for them (`spam.notice: daily`).
pub(super) async fn daily_notices(shared: Arc<Shared>, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut done = None;
    loop {
        let (last, next) = around(&shared.active().config.quarantine.notice, now());
        if done != Some(last) {
            match send_notices(&shared, last).await {
                Ok(()) => done = Some(last),
                Err(error) => tracing::error!(%error, "daily notices"),
            }
        }
        let pause = Duration::from_millis(u64::try_from(next - now()).unwrap_or(0));
        tokio::select! {
            () = &mut stop => return,
            // A reload may change the time of day, a suspended machine may lose time.
            () = tokio::time::sleep(pause.min(Duration::from_secs(60))) => {}
        }
    }
}

/// The last and the next moment that is `daily_at`, unix milliseconds.
fn around(notice: &NoticeTime, now: i64) -> (i64, i64) {
    let day = |offset: i64| {
        let today = crate::view::zoned(now, &notice.timezone).date();
        let date = today.saturating_add(offset.days());
        let zoned: Result<Zoned, _> = date
            .to_datetime(notice.daily_at)
            .to_zoned(notice.timezone.clone());
        zoned.map_or(now, |zoned| zoned.timestamp().as_millisecond())
    };
    let today = day(0);
    if today <= now {
        (today, day(1))
    } else {
        (day(-1), today)
    }
}

/// The notices of the 24 hours before `at`, to those who have not had theirs.
async fn send_notices(shared: &Arc<Shared>, at: i64) -> Result<(), StoreError> {
    let store = shared.store.clone();
    let mailboxes = blocking(move || {
        let mut mailboxes: BTreeMap<String, Vec<QuarantineEntry>> = BTreeMap::new();
        let filter = QuarantineFilter {
            since: Some(at - DAY),
            ..QuarantineFilter::default()
        };
        for entry in store.quarantine_list(filter) {
            let entry = entry?;
            let new = entry.received_at < at && entry.state == QuarantineState::Held;
            if new && entry.class != Class::Virus.as_str() {
                mailboxes
                    .entry(entry.mailbox.clone())
                    .or_default()
                    .push(entry);
            }
        }
        Ok(mailboxes)
    })
    .await?;
    let mut all = Ok(());
    for (mailbox, entries) in mailboxes {
        let shared = shared.clone();
        let told = blocking(move || notify_owner(&shared, &mailbox, &entries, at)).await;
        // One that fails keeps nobody else from theirs.
        all = all.and(told);
    }
    shared.courier.wake();
    all
}

fn notify_owner(
    shared: &Shared,
    mailbox: &str,
    held: &[QuarantineEntry],
    at: i64,
) -> Result<(), StoreError> {
    let active = shared.active();
    let Ok(address) = Address::parse(mailbox) else {
        return Ok(());
    };
    let Lookup::Found(owner) = active.directory.lookup(&address) else {
        return Ok(());
    };
    let wanted = |entry: &&QuarantineEntry| {
        let includes = &owner.notice_includes;
        includes.iter().any(|class| class.as_str() == entry.class)
    };
    let held: Vec<QuarantineEntry> = held.iter().filter(wanted).cloned().collect();
    if owner.spam_notice != SpamNotice::Daily || held.is_empty() {
        return Ok(());
    }
    let key = SeenKey::new(&address.key(), "daily_notice", &at.to_string());
    let Some(claim) = shared.store.claim(key, now(), 2 * DAY)? else {
        return Ok(());
    };
    let id = Id::new(now());
    let at_hand = now();
    let counts = owner.notice_includes.iter().filter_map(|class| {
        let held_as = match class {
            Class::Spam => HeldAs::Spam,
            Class::UserRule => HeldAs::UserRule,
            Class::Virus => return None,
        };
        let count = held.iter().filter(|entry| entry.class == class.as_str());
        let held = u64::try_from(count.count()).unwrap_or(u64::MAX);
        Some(Count {
            held_as,
            new: held,
            held,
        })
    });
    let listed = held.iter().take(notice::LISTED).map(|entry| {
        let expiring = entry.expires_at.saturating_sub(at_hand) <= DAY;
        letters::held_entry(entry, &owner.timezone, expiring)
    });
    let daily = Daily {
        counts: counts.collect(),
        new: listed.collect(),
        ..Daily::default()
    };
    let bytes = letters::daily_notice(&active.config, &owner, id, at_hand, &daily);
    let give_up = active.config.relay.retry.give_up;
    let to = vec![mailbox.to_owned()];
    let kind = OutgoingKind::QuarantineNotice;
    let item = OutgoingItem::new(id, kind, mailbox.to_owned(), to, now(), give_up);
    let header = MailHeader {
        sender: String::new(),
        client: "daily notice".into(),
        trace: String::new(),
        received_at: now(),
        entries: vec![FileEntry::Outgoing(item.clone())],
    };
    shared.store.write_mail(&header, &[&bytes])?;
    let mut batch = Batch::new();
    batch.put_outgoing(&item).mark_seen(claim);
    shared.store.commit_blocking(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_that_of_the_time_zone() {
        let timezone = jiff::tz::TimeZone::get("Asia/Tokyo").unwrap();
        let notice = NoticeTime {
            daily_at: jiff::civil::time(7, 0, 0, 0),
            timezone,
        };
        let millis = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let rows = [
            (
                "2026-11-21T21:59:59Z",
                "2026-11-20T22:00:00Z",
                "2026-11-21T22:00:00Z",
            ),
            (
                "2026-11-21T22:00:00Z",
                "2026-11-21T22:00:00Z",
                "2026-11-22T22:00:00Z",
            ),
            (
                "2026-11-22T12:00:00Z",
                "2026-11-21T22:00:00Z",
                "2026-11-22T22:00:00Z",
            ),
        ];
        for (now, last, next) in rows {
            assert_eq!(
                around(&notice, millis(now)),
                (millis(last), millis(next)),
                "{now}"
            );
        }
    }
}

//! `/v1/history`, `/v1/tail`, `/v1/why`, `/v1/facts`: what was decided, and on what.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::spawn_blocking;

use super::stream::{self, Gone, Outlet};
use super::{Problem, blocking, parse_id, query};
use crate::config::Lookup;
use crate::daemon::Shared;
use crate::mail::Address;
use crate::policy::{Stage, Verdict};
use crate::store::{FactsRecord, HistoryFilter, Id, WhyRecord};
use crate::view;

/// Query of all but `why`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Filter {
    mailbox: Option<String>,
    since: Option<String>,
    verdict: Option<String>,
    stage: Option<String>,
}

/// What the store does not select by.
#[derive(Debug, Clone, Copy)]
struct Decided {
    verdict: Option<Verdict>,
    stage: Option<Stage>,
}

impl Decided {
    fn of(filter: &Filter) -> Result<Self, Problem> {
        Ok(Self {
            verdict: filter.verdict.as_deref().map(query::verdict).transpose()?,
            stage: filter.stage.as_deref().map(query::stage).transpose()?,
        })
    }

    fn matches(self, why: &WhyRecord) -> bool {
        let verdict = self.verdict.map(Verdict::as_str);
        let stage = self.stage.map(Stage::as_str);
        verdict.is_none_or(|verdict| why.body["verdict"] == verdict)
            && stage.is_none_or(|stage| why.body["stage"] == stage)
    }
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    let decided = Decided::of(&filter)?;
    let mailbox = match &filter.mailbox {
        None => None,
        Some(text) => Some(owner(&shared, text).await?.0.to_string()),
    };
    let since = filter.since.as_deref().map(query::since).transpose()?;
    let found = shared
        .store()
        .history_list(HistoryFilter { mailbox, since });
    let wanted = move |why: &WhyRecord| decided.matches(why).then(|| line(why));
    Ok(stream::all(&shared, found, wanted))
}

/// The decisions from now on.
pub(super) async fn tail(
    State(shared): State<Arc<Shared>>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    if filter.since.is_some() {
        return Err(query::bad("tail begins now: no since".to_owned()));
    }
    let decided = Decided::of(&filter)?;
    let mailbox = match &filter.mailbox {
        None => None,
        Some(text) => Some(owner(&shared, text).await?.0.to_string().to_lowercase()),
    };
    // What comes behind the head of the answer is in it.
    let news = shared.store().follow();
    let (outlet, response) = stream::open(&shared);
    let wanted = move |why: &WhyRecord| {
        let own = |mailbox: &String| *mailbox == why.mailbox.to_lowercase();
        mailbox.as_ref().is_none_or(own) && decided.matches(why)
    };
    tokio::spawn(async move {
        // Why it ended is the client's to know.
        let _ = follow(&shared, &outlet, news, wanted).await;
        outlet.end();
    });
    Ok(response)
}

async fn follow(
    shared: &Shared,
    outlet: &Outlet,
    mut news: Receiver<Id>,
    wanted: impl Fn(&WhyRecord) -> bool,
) -> Result<(), Gone> {
    loop {
        let next = tokio::select! {
            next = news.recv() => next,
            () = outlet.closed() => return Err(Gone),
        };
        let line = match next {
            Ok(id) => new_line(shared, id, &wanted).await,
            Err(RecvError::Lagged(missed)) => {
                Some(json!({"schema": "sekimori.tail/1", "left_out": missed}).to_string())
            }
            Err(RecvError::Closed) => return Err(Gone),
        };
        if let Some(line) = line {
            outlet.put(Ok((line + "\n").into())).await?;
        }
    }
}

async fn new_line(shared: &Shared, id: Id, wanted: impl Fn(&WhyRecord) -> bool) -> Option<String> {
    let store = shared.store().clone();
    match crate::store::blocking(move || store.history_get(id)).await {
        Ok(why) => why.filter(wanted).as_ref().map(line),
        Err(error) => Some(stream::unreadable(&error.to_string())),
    }
}

pub(super) async fn why(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = parse_id(&id)?;
    let store = shared.store().clone();
    let record = blocking(move || store.history_find(id)).await?;
    let record =
        record.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("no such id: {id}")))?;
    let changed = settings_changed(&shared, &record).await;
    let changed = json!({"settings_changed": changed});
    Ok(Json(view::with(view::why(&record), changed)))
}

/// Whether the mailbox has other settings now than those that decided; `None` where that cannot be
/// known.
async fn settings_changed(shared: &Arc<Shared>, why: &WhyRecord) -> Option<bool> {
    let then = why.body["generation"].as_str()?;
    let mailbox = Address::parse(&why.mailbox).ok()?;
    match lookup(shared, mailbox).await {
        Ok(Lookup::Found(mailbox)) => Some(mailbox.generation != then),
        _ => None,
    }
}

/// The facts of one mailbox's mail.
pub(super) async fn facts(
    State(shared): State<Arc<Shared>>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    let Filter {
        mailbox: Some(mailbox),
        since,
        verdict: None,
        stage: None,
    } = filter
    else {
        return Err(query::bad("facts?mailbox=…[&since=…]".to_owned()));
    };
    let since = since.as_deref().map(query::since).transpose()?;
    let (mailbox, known) = owner(&shared, &mailbox).await?;
    if !known {
        let message = format!("no such mailbox: {mailbox}");
        return Err(Problem::new(StatusCode::NOT_FOUND, message));
    }
    let found = shared.store().facts_list(&mailbox.to_string(), since);
    let line = |facts: &FactsRecord| Some(view::facts_line(facts));
    Ok(stream::all(&shared, found, line))
}

/// The mailbox that an address belongs to (an alias's owner, the address without its extension), and
/// whether there is one; of one that there is not any more the records may still be there.
async fn owner(shared: &Arc<Shared>, text: &str) -> Result<(Address, bool), Problem> {
    let address = query::address(text, &shared.active().config.server.default_domain)?;
    Ok(match lookup(shared, address.clone()).await? {
        Lookup::Found(mailbox) => (mailbox.policy.mailbox.clone(), true),
        Lookup::UnknownDomain | Lookup::UnknownMailbox => (address.canonical(), false),
        Lookup::Unavailable(_) => (address.canonical(), true),
    })
}

async fn lookup(shared: &Arc<Shared>, address: Address) -> Result<Lookup, Problem> {
    let active = shared.active();
    let found = spawn_blocking(move || active.directory.lookup(&address)).await;
    found.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
}

fn line(why: &WhyRecord) -> String {
    view::why(why).to_string()
}

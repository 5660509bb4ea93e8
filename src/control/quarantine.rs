//! `/v1/quarantine`: held mail.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Problem, blocking, lines, parse_id, query};
use crate::daemon::Shared;
use crate::mail::Address;
use crate::store::{QuarantineEntry, QuarantineFilter, Shelf};
use crate::view;

/// Query of a list or a purge.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Filter {
    mailbox: Option<String>,
    stage: Option<String>,
    since: Option<String>,
    sender: Option<String>,
}

impl Filter {
    fn compile(self, default_domain: &str) -> Result<QuarantineFilter, Problem> {
        let mailbox = self
            .mailbox
            .map(|text| query::address(&text, default_domain));
        self.stage.as_deref().map(query::stage).transpose()?;
        Ok(QuarantineFilter {
            mailbox: mailbox.transpose()?.map(|mailbox| mailbox.key()),
            stage: self.stage,
            since: self.since.as_deref().map(query::since).transpose()?,
            sender: self.sender,
        })
    }
}

/// Body of a release.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Release {
    to: Option<String>,
    allow_sender: bool,
    /// The spam engine is told that the mail is no spam.
    learn: bool,
    #[serde(rename = "as")]
    actor: Actor,
}

/// On whose behalf the caller asks; the socket's file mode says who may be a caller at all.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Actor {
    /// Whoever runs the machine.
    #[default]
    Operator,
    /// The mailbox's owner, through a portal.
    Owner,
}

impl Actor {
    /// An owner sees that infected mail is held, and gets none of its octets.
    async fn may_have(self, shared: &Shared, entry: &QuarantineEntry) -> Result<(), Problem> {
        match self {
            Self::Operator => Ok(()),
            Self::Owner => Ok(shared.owner_may_have(entry).await?),
        }
    }
}

/// Query of an export.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Export {
    #[serde(rename = "as")]
    actor: Actor,
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    let (store, filter) = (
        shared.store().clone(),
        filter.compile(&shared.active().config.server.default_domain)?,
    );
    let entries =
        blocking(move || store.quarantine_list(filter).collect::<Result<Vec<_>, _>>()).await?;
    Ok(lines(entries.iter().map(view::quarantine)))
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(view::quarantine(&entry(&shared, &id).await?)))
}

pub(super) async fn raw(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(export): Query<Export>,
) -> Result<Response, Problem> {
    let entry = entry(&shared, &id).await?;
    export.actor.may_have(&shared, &entry).await?;
    let (store, id) = (shared.store().clone(), entry.id);
    let bytes = blocking(move || store.read_body(Shelf::Quarantine, id)).await?;
    Ok(([(header::CONTENT_TYPE, "message/rfc822")], bytes).into_response())
}

pub(super) async fn release(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    // `curl -X POST` sends no body and no type.
    let release: Release = match body.is_empty() {
        true => Release::default(),
        false => {
            serde_json::from_slice(&body).map_err(|error| query::bad(format!("body: {error}")))?
        }
    };
    let to = release
        .to
        .as_deref()
        .map(Address::parse)
        .transpose()
        .map_err(|error| query::bad(format!("--to: {error}")))?;
    let held = entry(&shared, &id).await?;
    release.actor.may_have(&shared, &held).await?;
    let lesson = match release.learn {
        true => Some(shared.lesson(&held).await?),
        false => None,
    };
    let allowed = match release.allow_sender {
        true => Some(shared.allow_sender(held.id).await?),
        false => None,
    };
    let entry = shared.release(held.id, to).await?;
    let mut value = view::quarantine(&entry);
    if let (Some(allowed), Some(members)) = (allowed, value.as_object_mut()) {
        members.insert("allowed".into(), allowed.sender.into());
        members.insert("still_held_by".into(), allowed.still_held_by.into());
    }
    if let (Some(lesson), Some(members)) = (lesson, value.as_object_mut()) {
        let error = lesson.teach().await.err();
        members.insert("learned".into(), error.is_none().into());
        members.insert("learn_error".into(), error.into());
    }
    Ok(Json(value))
}

pub(super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = parse_id(&id)?;
    let store = shared.store().clone();
    blocking(move || store.quarantine_delete(id)).await?;
    Ok(Json(
        json!({"schema": "sekimori.quarantine/1", "id": id, "state": "deleted"}),
    ))
}

pub(super) async fn purge(
    State(shared): State<Arc<Shared>>,
    Query(filter): Query<Filter>,
) -> Result<Json<Value>, Problem> {
    let (store, filter) = (
        shared.store().clone(),
        filter.compile(&shared.active().config.server.default_domain)?,
    );
    let deleted = blocking(move || store.quarantine_purge(filter)).await?;
    Ok(Json(
        json!({"schema": "sekimori.purge/1", "deleted": deleted}),
    ))
}

async fn entry(shared: &Shared, id: &str) -> Result<QuarantineEntry, Problem> {
    let id = parse_id(id)?;
    let store = shared.store().clone();
    let found = blocking(move || store.quarantine_get(id)).await?;
    found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("no such id: {id}")))
}

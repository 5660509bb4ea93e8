//! `/v1/queue`: outgoing mail.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::{Problem, blocking, lines, parse_id};
use crate::daemon::Shared;
use crate::store::OutgoingState;
use crate::view;

pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let store = shared.store().clone();
    let items = blocking(move || store.outgoing_list().collect::<Result<Vec<_>, _>>()).await?;
    // What was given up waits for nothing; its why-record tells of it, and a retry still takes its id.
    // But the only copy of a mail waits for the operator.
    let waiting = items
        .iter()
        .filter(|item| item.state != OutgoingState::Dead || item.fallback);
    Ok(lines(waiting.map(view::outgoing)))
}

pub(super) async fn retry(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = parse_id(&id)?;
    let store = shared.store().clone();
    blocking(move || store.outgoing_retry(Some(id), jiff::Timestamp::now().as_millisecond()))
        .await?;
    shared.courier().wake();
    Ok(Json(
        json!({"schema": "sekimori.queue/1", "id": id, "state": "ready"}),
    ))
}

pub(super) async fn drop(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = parse_id(&id)?;
    shared.drop_outgoing(id).await?;
    Ok(Json(
        json!({"schema": "sekimori.queue/1", "id": id, "state": "dropped"}),
    ))
}

//! The control socket: HTTP/1.1 over a Unix socket, the JSON of the command line.
//!
//! Lists are one object a line (`application/x-ndjson`); an error is `{"error": …}` with a status
//! that the CLI turns into its exit code. Who may connect is the socket file's mode.

mod history;
mod quarantine;
mod query;
mod queue;
mod stream;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::task::spawn_blocking;

use crate::config::edit::EditError;
use crate::daemon::{AllowError, LessonError, Reload, Shared, Withheld};
use crate::store::{self, Id, StoreError};

type Daemon = State<Arc<Shared>>;

/// Opens the socket with its file mode. A file left behind by a dead daemon is replaced; the store's
/// lock has made sure that no other daemon of these settings lives.
///
/// # Errors
/// The socket cannot be made.
pub fn bind(path: &Path, mode: u32) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Serves the socket until `stop` resolves.
pub async fn serve(
    listener: UnixListener,
    shared: Arc<Shared>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/reload", post(reload))
        .route("/v1/store/verify", post(verify))
        .route("/v1/why/{id}", get(history::why))
        .route("/v1/history", get(history::list))
        .route("/v1/tail", get(history::tail))
        .route("/v1/facts", get(history::facts))
        .route(
            "/v1/quarantine",
            get(quarantine::list).delete(quarantine::purge),
        )
        .route(
            "/v1/quarantine/{id}",
            get(quarantine::show).delete(quarantine::delete),
        )
        .route("/v1/quarantine/{id}/raw", get(quarantine::raw))
        .route("/v1/quarantine/{id}/release", post(quarantine::release))
        .route("/v1/queue", get(queue::list))
        .route("/v1/queue/{id}/retry", post(queue::retry))
        .route("/v1/queue/{id}", delete(queue::drop))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such resource"))
        .with_state(shared);
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
    {
        tracing::error!(%error, "control socket");
    }
}

/// An answer that is not 2xx.
pub(super) struct Problem {
    status: StatusCode,
    message: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"error": self.message}))).into_response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let status = match &error {
            StoreError::NotFound(_) => StatusCode::NOT_FOUND,
            StoreError::Conflict(_) => StatusCode::CONFLICT,
            error if error.is_full() => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<Withheld> for Problem {
    fn from(error: Withheld) -> Self {
        let status = match &error {
            Withheld::Store(error) => return error.clone().into(),
            Withheld::Virus => StatusCode::FORBIDDEN,
            Withheld::NotScanned => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<LessonError> for Problem {
    fn from(error: LessonError) -> Self {
        let status = match &error {
            LessonError::Store(error) => return error.clone().into(),
            LessonError::Off | LessonError::NotSpam(_) => StatusCode::BAD_REQUEST,
            LessonError::Password(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<AllowError> for Problem {
    fn from(error: AllowError) -> Self {
        let status = match &error {
            AllowError::Store(error) => return error.clone().into(),
            AllowError::NoSender => StatusCode::BAD_REQUEST,
            AllowError::Edit(error) => match error {
                EditError::ReadOnly | EditError::Outside { .. } | EditError::Owner(_) => {
                    StatusCode::FORBIDDEN
                }
                EditError::Busy(_) | EditError::Changed(_) => StatusCode::CONFLICT,
                EditError::Io { .. } => StatusCode::INSUFFICIENT_STORAGE,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            },
        };
        Self::new(status, error.to_string())
    }
}

/// Runs store work where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    store::blocking(work).await.map_err(Problem::from)
}

/// One object a line.
pub(super) fn lines(values: impl Iterator<Item = Value>) -> Response {
    let text: String = values.map(|value| format!("{value}\n")).collect();
    ([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response()
}

pub(super) fn parse_id(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|_| {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("no such id: {}", text.escape_debug()),
        )
    })
}

async fn status(State(shared): Daemon) -> Json<Value> {
    Json(shared.status().await)
}

async fn reload(State(shared): Daemon) -> Response {
    match spawn_blocking(move || shared.reload()).await {
        Ok(Reload::Done { warnings, restart }) => {
            let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
            let body = json!({"schema": "sekimori.reload/1", "reloaded": true, "warnings": warnings, "needs_restart": restart});
            Json(body).into_response()
        }
        Ok(Reload::Refused(errors)) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, errors.join("\n")).into_response()
        }
        Err(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response(),
    }
}

async fn verify(State(shared): Daemon) -> Result<Json<Value>, Problem> {
    let store = shared.store().clone();
    Ok(Json(crate::view::verify(
        &blocking(move || store.verify()).await?,
    )))
}

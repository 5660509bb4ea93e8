//! What a released mail teaches the spam engine (`quarantine release --learn`).

use std::sync::Arc;

use bytes::Bytes;

use super::{Shared, settings};
use crate::agent::Scanners;
use crate::policy::Stage;
use crate::store::{QuarantineEntry, Shelf, StoreError, blocking};

/// Why nothing can be learned of an entry.
#[derive(Debug, thiserror::Error)]
pub enum LessonError {
    /// `scanners.spam.learn` names nobody.
    #[error("nothing learns here: set scanners.spam.learn.address")]
    Off,
    /// Another stage holds it.
    #[error("held by {0}: only of mail that the spam stage held can the engine learn")]
    NotSpam(String),
    /// The password cannot be read.
    #[error("{0}")]
    Password(String),
    /// The mail cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A held mail, read before its release takes it away.
#[derive(Debug)]
pub struct Lesson {
    scanners: Arc<Scanners>,
    password: Option<String>,
    raw: Bytes,
}

impl Shared {
    /// What the spam engine is to learn of an entry: that it is no spam.
    ///
    /// # Errors
    /// [`LessonError`]; nothing has happened then.
    pub async fn lesson(&self, entry: &QuarantineEntry) -> Result<Lesson, LessonError> {
        if entry.stage != Stage::Spam.as_str() {
            return Err(LessonError::NotSpam(entry.stage.clone()));
        }
        let active = self.active();
        let learn = active.config.scanners.learn.clone();
        let password = learn.ok_or(LessonError::Off)?.password;
        let (store, id) = (self.store.clone(), entry.id);
        let raw = blocking(move || store.read_body(Shelf::Quarantine, id)).await?;
        let password = password
            .map(|source| settings::secret("scanners.spam.learn.password_file", &source))
            .transpose()
            .map_err(|error| LessonError::Password(error.to_string()))?;
        Ok(Lesson {
            scanners: active.scanners.clone(),
            password,
            raw: raw.into(),
        })
    }
}

impl Lesson {
    /// Tells the engine. To tell it twice changes nothing.
    ///
    /// # Errors
    /// Words for the operator.
    pub async fn teach(&self) -> Result<(), String> {
        let taught = self
            .scanners
            .teach_ham(&self.raw, self.password.as_deref())
            .await;
        taught.inspect_err(|error| tracing::warn!(error, "the spam engine learned nothing"))
    }
}

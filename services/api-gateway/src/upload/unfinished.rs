//! An upload that its caller can't go on with: it is thrown away, or it would fill the disk until it expires.

use std::time::Duration;

use streamgate_core::{ErrorKind, Failure};

use crate::{
    error::{Error, Result},
    upload::session::Session,
};

/// Waits between tries to throw an upload away: its writer may still be letting go.
const WAITS: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(5)];
/// What is added to the error that ended it.
const TOLD: &str = "nothing of the upload was kept";

/// An upload under way. Dropped unfinished, as when its caller goes away, it is thrown away.
#[derive(Debug)]
pub struct Unfinished {
    open: Option<(Session, String)>,
}

impl Unfinished {
    /// Watches over an upload, unless its caller can repeat the call.
    pub fn of(session: &Session, upload_id: &str, repeatable: bool) -> Self {
        Self { open: (!repeatable).then(|| (session.clone(), upload_id.to_owned())) }
    }

    /// The upload is completed.
    pub fn done(mut self) {
        self.open = None;
    }

    /// Throws the upload away because of `error`, and says so in it. The first try is made before the caller hears of it.
    pub async fn abandon(mut self, error: Error) -> Error {
        let Some((session, upload_id)) = self.open.take() else { return error };
        match session.cancel(&upload_id).await {
            Ok(()) => told(error),
            Err(_) => {
                spawn(session, upload_id);
                error
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((session, upload_id)) = self.open.take() {
            spawn(session, upload_id);
        }
    }
}

fn spawn(session: Session, upload_id: String) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            if let Err(error) = cancel(&session, &upload_id).await {
                tracing::warn!(%upload_id, %error, "an unfinished upload was not cancelled; it stays until it expires");
            }
        });
    }
}

async fn cancel(session: &Session, upload_id: &str) -> Result<()> {
    for wait in WAITS {
        tokio::time::sleep(wait).await;
        match session.cancel(upload_id).await {
            // It was never begun, or has ended in another way.
            Err(Error::Refused(Failure { kind: ErrorKind::NotFound | ErrorKind::FailedPrecondition, .. })) | Ok(()) => {
                return Ok(());
            }
            Err(_) => {}
        }
    }
    session.cancel(upload_id).await
}

fn told(error: Error) -> Error {
    match error {
        Error::Refused(failure) => Error::Refused(Failure { message: format!("{}; {TOLD}", failure.message), ..failure }),
        Error::Malformed(text) => Error::Malformed(format!("{text}; {TOLD}")),
        other => other,
    }
}

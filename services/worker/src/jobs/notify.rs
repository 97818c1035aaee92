//! `notify`: hands a message to the configured relay, which knows how to send e-mail, push and the like.
//!
//! It is a hand-off: the job succeeds when the relay has taken the message. What becomes of it there,
//! the relay alone knows.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use reqwest::{Client, StatusCode, redirect::Policy};
use serde::Serialize;
use streamgate_core::Failure;
use streamgate_proto::streamgate::worker::v1::{NotifyParams, job_params::Kind};

use super::{JobError, JobType};
use crate::engine::Work;

/// How long the relay may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a channel, a recipient or a subject.
const MAX_LINE: usize = 320;
/// Bytes of a text.
const MAX_TEXT: usize = 64 * 1024;

/// Where messages are handed to. An operator configures it, so it may be anywhere.
#[derive(Clone)]
pub struct Relay {
    http: Client,
    url: String,
    token: String,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("is_set", &!self.url.is_empty()).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Message<'a> {
    channel: &'a str,
    recipient: &'a str,
    subject: &'a str,
    text: &'a str,
}

impl Relay {
    /// The relay at `url`, empty for none; `token` is sent to it as a bearer unless it is empty.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(url: &str, token: &str) -> Result<Self, reqwest::Error> {
        let http = Client::builder().redirect(Policy::none()).timeout(TIMEOUT).build()?;
        Ok(Self { http, url: url.to_owned(), token: token.to_owned() })
    }

    /// Hands a message over. The relay tells repeats by the job's id.
    async fn hand_over(&self, job_id: &str, params: &NotifyParams) -> Result<String, JobError> {
        if self.url.is_empty() {
            return Err(JobError::Hopeless("no relay is configured: set worker.notify_url".to_owned()));
        }
        let NotifyParams { channel, recipient, subject, text } = params;
        let mut request =
            self.http.post(&self.url).header("idempotency-key", job_id).json(&Message { channel, recipient, subject, text });
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        // The client's own words name the URL, which may hold a key.
        let answer = request.send().await.map_err(|_| JobError::Retry("the relay could not be reached".to_owned()))?;
        match answer.status() {
            status if status.is_success() => Ok(format!("the relay took the message for {channel}: {}", status.as_u16())),
            status @ (StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE) => {
                Err(JobError::Hopeless(format!("the relay refused the message: {}", status.as_u16())))
            }
            status => Err(JobError::Retry(format!("the relay answered {}", status.as_u16()))),
        }
    }
}

/// Hands messages over.
#[derive(Debug)]
pub struct Notify {
    relay: Relay,
}

impl Notify {
    /// Hands messages to `relay`.
    #[must_use]
    pub const fn new(relay: Relay) -> Self {
        Self { relay }
    }
}

#[async_trait]
impl JobType for Notify {
    fn name(&self) -> &'static str {
        "notify"
    }

    fn check(&self, params: Option<&Kind>) -> Result<(), Failure> {
        let Some(Kind::Notify(params)) = params else {
            return Err(Failure::invalid_field("params.notify", "is required"));
        };
        let lines = [("channel", &params.channel, 1), ("recipient", &params.recipient, 1), ("subject", &params.subject, 0)];
        for (name, line, least) in lines {
            // A line break would begin another header of an e-mail.
            if line.len() < least || line.len() > MAX_LINE || line.chars().any(char::is_control) {
                let words = format!("must be one line of {least} to {MAX_LINE} bytes");
                return Err(Failure::invalid_field(format!("params.notify.{name}"), words));
            }
        }
        if params.text.len() > MAX_TEXT {
            return Err(Failure::invalid_field("params.notify.text", format!("must be at most {MAX_TEXT} bytes")));
        }
        Ok(())
    }

    async fn run(&self, work: &Work) -> Result<String, JobError> {
        let Some(Kind::Notify(params)) = &work.params else {
            return Err(JobError::Hopeless("the job names no message".to_owned()));
        };
        self.relay.hand_over(&work.job_id, params).await
    }
}

//! What this service needs of others. The mesh answers in production, fakes in tests.

use std::sync::Arc;

use async_trait::async_trait;
use streamgate_core::{Caller, Failure, Role, time::UnixMillis};
use streamgate_proto::streamgate::{gate::v1::Rule, media::v1::Presentation};

/// The title behind a playback id.
#[derive(Debug, Clone, PartialEq)]
pub struct Title {
    /// Its private id.
    pub content_id: String,
    /// Account that owns it.
    pub owner: String,
    /// Who may play it; absent means only the owner and operators.
    pub gate: Option<Arc<Rule>>,
    /// Hash of the gate; empty without one.
    pub gate_hash: String,
}

/// Knows titles.
#[async_trait]
pub trait Titles: Send + Sync + 'static {
    /// The title behind `playback_id`; absent when there is none, or it was deleted.
    async fn resolve(&self, playback_id: &str) -> Result<Option<Title>, Failure>;
    /// A playback id of a title, for somebody who may know the title's own id; absent for everybody else.
    async fn playback_id(&self, caller: &Caller, content_id: &str) -> Result<Option<String>, Failure>;
    /// Drops what is remembered of a title: it has changed. Who remembers nothing has nothing to do.
    fn forget(&self, _content_id: &str) {}
}

/// A gate, and for whom it is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct GateQuestion {
    /// The gate.
    pub gate: Arc<Rule>,
    /// CAIP-10 wallet of the viewer; absent when none is known.
    pub wallet: Option<String>,
}

/// The three-valued answer of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// May play.
    Granted,
    /// May not play, with what was missing.
    Denied(Vec<String>),
    /// Can't be told now. Neither yes nor no.
    Unknown,
}

/// Answers gates.
#[async_trait]
pub trait Gates: Send + Sync + 'static {
    /// One answer for each question, in order: `Unknown` where nobody could be asked.
    async fn evaluate(&self, questions: Vec<GateQuestion>) -> Vec<Verdict>;
}

/// Knows what accounts may do.
#[async_trait]
pub trait Accounts: Send + Sync + 'static {
    /// The role of each account now, in order, whatever its tokens say; absent for one that may do nothing any more.
    async fn roles(&self, account_ids: Vec<String>) -> Result<Vec<Option<Role>>, Failure>;
}

/// Knows what was made of titles.
#[async_trait]
pub trait Presentations: Send + Sync + 'static {
    /// What was made of a title, if it is newer than `known_revision`. Version 0 is the one to be played.
    async fn newer_than(&self, content_id: &str, version: u32, known_revision: u64) -> Result<Option<Presentation>, Failure>;
}

/// What a playback token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// The session.
    pub session_id: String,
    /// The public id that is played.
    pub playback_id: String,
    /// The title behind it.
    pub content_id: String,
    /// Wallet or account; empty when nobody signed in.
    pub subject: String,
    /// Gate at the opening.
    pub gate_hash: String,
    /// When the token ends.
    pub expires_ms: UnixMillis,
}

/// Signs and checks playback tokens.
#[async_trait]
pub trait Tokens: Send + Sync + 'static {
    /// A signed token that ends with its session.
    async fn issue(&self, claims: &TokenClaims) -> Result<String, Failure>;
    /// What a token says, after its signature, issuer, audience and time were checked.
    async fn verify(&self, token: &str) -> Result<TokenClaims, Failure>;
}

//! The neighbours as the mesh answers for them.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use prost::Message as _;
use streamgate_client::{Mesh, TokenVerifier, token::PlaybackClaims};
use streamgate_core::{Caller, ErrorKind, Failure, Role, time::now_ms};
use streamgate_media::brief::restore;
use streamgate_proto::streamgate::{
    auth::v1::{EvaluateGatesRequest, GateQuery, GetAccountRolesRequest, IssuePlaybackTokenRequest, Role as WireRole},
    gate::v1::{Decision, Verdict as WireVerdict},
    media::v1::Presentation,
    metadata::v1::{GetContentRequest, ResolvePlaybackRequest},
    transcoder::v1::GetPresentationRequest,
};
use tonic::Status;

use crate::engine::neighbours::{Accounts, GateQuestion, Gates, Presentations, Title, Titles, TokenClaims, Tokens, Verdict};

/// Gates of one call, as many as its other end takes.
const MOST_GATES: usize = 1_000;
/// Bytes of the gates of one call. A message holds 4 MiB, and the answer, which tells of every rule, may be longer than the question.
const MOST_GATE_BYTES: usize = 512 * 1024;
/// Calls about gates that are under way at once.
const GATE_CALLS_AT_ONCE: usize = 4;
/// Accounts of one call, as many as its other end takes.
const MOST_ACCOUNTS: usize = 1_000;

/// Asks the other services.
#[derive(Debug, Clone)]
pub struct Neighbours {
    mesh: Mesh,
}

impl Neighbours {
    /// Neighbours behind `mesh`.
    #[must_use]
    pub const fn new(mesh: Mesh) -> Self {
        Self { mesh }
    }
}

fn failure(status: &Status) -> Failure {
    Failure::from(status)
}

#[async_trait]
impl Titles for Neighbours {
    async fn resolve(&self, playback_id: &str) -> Result<Option<Title>, Failure> {
        let request = ResolvePlaybackRequest { playback_id: playback_id.to_owned() };
        match self.mesh.metadata().resolve_playback(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                // A rule without a kind is the wire's way to say that there is no gate.
                let gate = answer.gate.filter(|rule| rule.kind.is_some()).map(Arc::new);
                Ok(Some(Title { content_id: answer.content_id, owner: answer.owner, gate, gate_hash: answer.gate_hash }))
            }
            Err(status) => match failure(&status) {
                // Only the service itself says that a title is gone: a path nobody serves is another matter.
                missing if missing.kind == ErrorKind::NotFound && status.code() == tonic::Code::NotFound => Ok(None),
                other => Err(other),
            },
        }
    }

    async fn playback_id(&self, caller: &Caller, content_id: &str) -> Result<Option<String>, Failure> {
        let request = GetContentRequest { content_id: content_id.to_owned() };
        match self.mesh.on_behalf_of(caller).metadata().get_content(request).await {
            Ok(answer) => Ok(answer.into_inner().content.and_then(|content| content.playback_ids.into_iter().next())),
            Err(status) => match failure(&status) {
                hidden
                    if matches!(hidden.kind, ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::InvalidArgument) =>
                {
                    Ok(None)
                }
                other => Err(other),
            },
        }
    }
}

#[async_trait]
impl Gates for Neighbours {
    async fn evaluate(&self, questions: Vec<GateQuestion>) -> Vec<Verdict> {
        let calls = stream::iter(calls_of(questions)).map(|questions| self.ask(questions));
        calls.buffered(GATE_CALLS_AT_ONCE).concat().await
    }
}

impl Neighbours {
    /// One call. When it fails it answers none of its questions, and takes no answer from those of other calls.
    async fn ask(&self, questions: Vec<GateQuestion>) -> Vec<Verdict> {
        let count = questions.len();
        let query =
            |asked: GateQuestion| GateQuery { gate: Some((*asked.gate).clone()), accounts: asked.wallet.into_iter().collect() };
        let request = EvaluateGatesRequest { queries: questions.into_iter().map(query).collect() };
        let mut verdicts: Vec<Verdict> = match self.mesh.auth().evaluate_gates(request).await {
            Ok(answer) => answer.into_inner().decisions.into_iter().map(verdict).collect(),
            Err(status) => {
                let failure = failure(&status);
                tracing::warn!(reason = %failure.reason, error = %failure, gates = count, "gates could not be asked");
                Vec::new()
            }
        };
        verdicts.resize(count, Verdict::Unknown);
        verdicts
    }
}

/// The questions of each call, in order. One that is too long for itself is asked alone.
fn calls_of(questions: Vec<GateQuestion>) -> Vec<Vec<GateQuestion>> {
    let (mut calls, mut call, mut bytes) = (Vec::new(), Vec::new(), 0);
    for question in questions {
        let more = question.gate.encoded_len() + question.wallet.as_ref().map_or(0, String::len);
        if !call.is_empty() && (call.len() == MOST_GATES || bytes + more > MOST_GATE_BYTES) {
            calls.push(std::mem::take(&mut call));
            bytes = 0;
        }
        bytes += more;
        call.push(question);
    }
    if !call.is_empty() {
        calls.push(call);
    }
    calls
}

#[async_trait]
impl Accounts for Neighbours {
    async fn roles(&self, account_ids: Vec<String>) -> Result<Vec<Option<Role>>, Failure> {
        let mut roles = Vec::with_capacity(account_ids.len());
        for account_ids in account_ids.chunks(MOST_ACCOUNTS) {
            let request = GetAccountRolesRequest { account_ids: account_ids.to_vec() };
            let answer = self.mesh.auth().get_account_roles(request).await.map_err(|status| failure(&status))?;
            roles.extend(answer.into_inner().roles.into_iter().map(role));
        }
        Ok(roles)
    }
}

/// Whatever is not plainly a role is none. It keeps its place: the iterator that is generated for the field leaves it out.
fn role(value: i32) -> Option<Role> {
    match WireRole::try_from(value) {
        Ok(WireRole::Viewer) => Some(Role::Viewer),
        Ok(WireRole::Creator) => Some(Role::Creator),
        Ok(WireRole::Operator) => Some(Role::Operator),
        Ok(WireRole::Unspecified) | Err(_) => None,
    }
}

/// Whatever is not plainly yes or no is unknown.
fn verdict(decision: Decision) -> Verdict {
    match decision.verdict() {
        WireVerdict::Granted => Verdict::Granted,
        WireVerdict::Denied => Verdict::Denied(decision.unmet),
        WireVerdict::Unknown | WireVerdict::Unspecified => Verdict::Unknown,
    }
}

#[async_trait]
impl Presentations for Neighbours {
    async fn newer_than(&self, content_id: &str, version: u32, known_revision: u64) -> Result<Option<Presentation>, Failure> {
        let request = GetPresentationRequest { content_id: content_id.to_owned(), known_revision, version };
        let answer = self.mesh.transcoder().get_presentation(request).await.map_err(|status| failure(&status))?;
        let mut presentation = answer.into_inner().presentation;
        if let Some(brief) = &mut presentation {
            restore(brief);
        }
        Ok(presentation)
    }
}

/// Signs through the auth service, and checks here with its public keys.
#[derive(Debug)]
pub struct MeshTokens {
    mesh: Mesh,
    verifier: TokenVerifier,
}

impl MeshTokens {
    /// Tokens of the auth service behind `mesh`.
    #[must_use]
    pub fn new(mesh: Mesh) -> Self {
        Self { verifier: TokenVerifier::new(mesh.clone()), mesh }
    }
}

#[async_trait]
impl Tokens for MeshTokens {
    async fn issue(&self, claims: &TokenClaims) -> Result<String, Failure> {
        let left_seconds = (claims.expires_ms - now_ms()).max(1000) / 1000;
        let request = IssuePlaybackTokenRequest {
            session_id: claims.session_id.clone(),
            playback_id: claims.playback_id.clone(),
            content_id: claims.content_id.clone(),
            subject: claims.subject.clone(),
            gate_hash: claims.gate_hash.clone(),
            // The session may end within this second, and its token with it.
            ttl_seconds: u32::try_from(left_seconds + 1).unwrap_or(u32::MAX),
        };
        let answer = self.mesh.auth().issue_playback_token(request).await.map_err(|status| failure(&status))?.into_inner();
        Ok(answer.token)
    }

    async fn verify(&self, token: &str) -> Result<TokenClaims, Failure> {
        Ok(token_claims(&*self.verifier.playback(token).await?))
    }
}

fn token_claims(claims: &PlaybackClaims) -> TokenClaims {
    TokenClaims {
        session_id: claims.sid.clone(),
        playback_id: claims.pid.clone(),
        content_id: claims.cid.clone(),
        subject: claims.sub.clone(),
        gate_hash: claims.gate.clone(),
        expires_ms: claims.exp.saturating_mul(1000),
    }
}

#[cfg(test)]
mod tests {
    use streamgate_proto::streamgate::gate::v1::{Rule, Wallets, rule::Kind};

    use super::*;

    /// A gate of so many accounts.
    fn gate(accounts: usize) -> Arc<Rule> {
        let accounts = vec!["eip155:1:0x5fbdb2315678afecb367f032d93f642f64180aa3".to_owned(); accounts];
        Arc::new(Rule { kind: Some(Kind::Wallets(Wallets { accounts })) })
    }

    fn questions(gate: &Arc<Rule>, count: usize) -> Vec<GateQuestion> {
        (0..count).map(|number| GateQuestion { gate: Arc::clone(gate), wallet: Some(format!("{number}")) }).collect()
    }

    fn lengths(questions: Vec<GateQuestion>) -> Vec<usize> {
        calls_of(questions).iter().map(Vec::len).collect()
    }

    #[test]
    fn calls_about_gates_are_cut_by_number() {
        assert!(lengths(Vec::new()).is_empty());
        assert_eq!(lengths(questions(&gate(1), 2 * MOST_GATES + 1)), [MOST_GATES, MOST_GATES, 1]);
    }

    #[test]
    fn calls_about_gates_are_cut_by_bytes_and_in_order() {
        // The heaviest that may be: 32 rules of 256 accounts.
        let heavy = gate(32 * 256);
        let all: Vec<GateQuestion> = [questions(&gate(1), 3), questions(&heavy, 10), questions(&gate(1), 3)].concat();
        for call in calls_of(all.clone()) {
            let bytes: usize = call.iter().map(|question| question.gate.encoded_len()).sum();
            assert!(bytes <= MOST_GATE_BYTES, "{} questions of {bytes} bytes", call.len());
        }
        assert_eq!(calls_of(all.clone()).concat(), all);
        assert_eq!(lengths(questions(&gate(32 * 512), 2)), [1, 1], "too long for itself");
    }

    #[test]
    fn a_role_that_nobody_knows_is_none() {
        assert_eq!([99, 0, 3, 1].map(role), [None, None, Some(Role::Operator), Some(Role::Viewer)]);
    }
}

//! The neighbours as the mesh answers for them.

use async_trait::async_trait;
use streamgate_client::{Mesh, TokenVerifier, token::PlaybackClaims};
use streamgate_core::{Caller, ErrorKind, Failure, time::now_ms};
use streamgate_proto::streamgate::{
    auth::v1::{EvaluateGatesRequest, GateQuery, IssuePlaybackTokenRequest},
    gate::v1::{Decision, Verdict as WireVerdict},
    media::v1::Presentation,
    metadata::v1::{GetContentRequest, ResolvePlaybackRequest},
    transcoder::v1::GetPresentationRequest,
};
use tonic::Status;

use crate::engine::neighbours::{GateQuestion, Gates, Presentations, Title, Titles, TokenClaims, Tokens, Verdict};

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
                let gate = answer.gate.filter(|rule| rule.kind.is_some());
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
    async fn evaluate(&self, questions: Vec<GateQuestion>) -> Result<Vec<Verdict>, Failure> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let queries =
            questions.into_iter().map(|asked| GateQuery { gate: Some(asked.gate), accounts: asked.wallet.into_iter().collect() });
        let request = EvaluateGatesRequest { queries: queries.collect() };
        let answer = self.mesh.auth().evaluate_gates(request).await.map_err(|status| failure(&status))?;
        Ok(answer.into_inner().decisions.into_iter().map(verdict).collect())
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
        Ok(answer.into_inner().presentation)
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

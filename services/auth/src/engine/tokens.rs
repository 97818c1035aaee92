//! Tokens: what they say, signed.

use streamgate_client::token::{
    self, ACCESS_AUDIENCE, AccessClaims, ISSUER, PLAYBACK_AUDIENCE, PlaybackClaims, TokenClass, TokenError,
};
use streamgate_core::time::{UnixMillis, now_ms};

use super::{AccountRow, Engine, random};
use crate::Error;

/// Tokens of a sign-in.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// Proves the account for minutes.
    pub access_token: String,
    /// Gives the next pair, once.
    pub refresh_token: String,
    /// When the access token ends.
    pub expires_at: UnixMillis,
    /// Whose they are.
    pub account: AccountRow,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedIn").field("account", &self.account).field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What a playback token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaybackGrant {
    /// The session.
    pub session_id: String,
    /// The public id that is played.
    pub playback_id: String,
    /// The title.
    pub content_id: String,
    /// CAIP-10 wallet or account id; empty for an open title.
    pub subject: String,
    /// Hash of the gate that was met.
    pub gate_hash: String,
    /// Seconds until it ends.
    pub ttl_seconds: u32,
}

impl Engine {
    pub(super) fn signed_in(&self, account: AccountRow, refresh_token: String, now: UnixMillis) -> Result<SignedIn, Error> {
        let iat = now / 1000;
        let exp = iat + i64::from(self.settings.config.access_ttl_seconds);
        let claims = AccessClaims {
            iss: ISSUER.to_owned(),
            aud: ACCESS_AUDIENCE.to_owned(),
            sub: account.id.to_string(),
            role: account.role.to_string(),
            wallet: account.wallet.clone(),
            iat,
            exp,
            jti: random::text::<16>()?,
        };
        let access_token = self.keys.sign(|kid, sign| token::encode(TokenClass::Access, kid, &claims, sign))?;
        Ok(SignedIn { access_token, refresh_token, expires_at: exp * 1000, account })
    }

    /// Reads an access token.
    ///
    /// # Errors
    /// What is wrong with it, or that its key is unknown and the database does not answer.
    pub async fn verify_access(&self, text: &str) -> Result<AccessClaims, Error> {
        let verify = || self.keys.verify_with(|keys| token::verify_access(text, keys, now_ms()));
        let mut claims = verify();
        if matches!(claims, Err(TokenError::UnknownKey)) {
            self.keys.look_again(&self.db).await?;
            claims = verify();
        }
        Ok(claims?)
    }

    /// Signs a playback token; gives it and when it ends.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn issue_playback_token(&self, grant: PlaybackGrant) -> Result<(String, UnixMillis), Error> {
        let iat = now_ms() / 1000;
        let exp = iat + i64::from(grant.ttl_seconds);
        let claims = PlaybackClaims {
            iss: ISSUER.to_owned(),
            aud: PLAYBACK_AUDIENCE.to_owned(),
            sub: grant.subject,
            sid: grant.session_id,
            pid: grant.playback_id,
            cid: grant.content_id,
            gate: grant.gate_hash,
            iat,
            exp,
        };
        let signed = self.keys.sign(|kid, sign| token::encode(TokenClass::Playback, kid, &claims, sign))?;
        self.metrics.playback_tokens.inc();
        Ok((signed, exp * 1000))
    }
}

//! Access and playback tokens: strict JWTs that only our own keys sign.
//!
//! The auth service signs and everybody verifies with the same claim types. Stricter than
//! RFC 7519: exactly the headers and claims below, EdDSA only, and one `typ` per class, so that
//! a token of one class is never taken for another.

use std::{collections::HashMap, fmt};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use streamgate_core::{Account, ErrorKind, Failure, time::UnixMillis};
use streamgate_proto::streamgate::auth::v1::GetJwksResponse;

/// `iss` of every token.
pub const ISSUER: &str = "streamgate";
/// `aud` of access tokens.
pub const ACCESS_AUDIENCE: &str = "streamgate";
/// `aud` of playback tokens.
pub const PLAYBACK_AUDIENCE: &str = "streamgate-play";

/// Longest token that is looked at.
const MAX_TOKEN: usize = 8 * 1024;
/// How far the signer's clock may be ahead of ours.
const ISSUED_LEEWAY_SECONDS: i64 = 5;

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessClaims {
    /// [`ISSUER`].
    pub iss: String,
    /// [`ACCESS_AUDIENCE`].
    pub aud: String,
    /// Account id.
    pub sub: String,
    /// `viewer`, `creator` or `operator`.
    pub role: String,
    /// CAIP-10 wallet that was proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallet: Option<String>,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// Names this token.
    pub jti: String,
}

impl AccessClaims {
    /// The account the token stands for.
    ///
    /// # Errors
    /// `Claims` when the subject is no account id or the role is none of ours.
    pub fn account(&self) -> Result<Account, TokenError> {
        let id = self.sub.parse().map_err(|_| TokenError::Claims("sub"))?;
        let role = self.role.parse().map_err(|_| TokenError::Claims("role"))?;
        Ok(Account { id, role, wallet: self.wallet.clone() })
    }
}

/// What a playback token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaybackClaims {
    /// [`ISSUER`].
    pub iss: String,
    /// [`PLAYBACK_AUDIENCE`].
    pub aud: String,
    /// CAIP-10 wallet or account id; empty for an open title.
    pub sub: String,
    /// Session id.
    pub sid: String,
    /// Playback id.
    pub pid: String,
    /// Content id.
    pub cid: String,
    /// Hash of the gate that was met; empty when the owner plays.
    pub gate: String,
    /// When it was signed, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
}

/// Why a token was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a JWT as we make them.
    #[error("the token is malformed")]
    Malformed,
    /// Signed with a key we don't know, perhaps a new one.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is not as it must be.
    #[error("the token's {0} is wrong")]
    Claims(&'static str),
    /// Its time is over.
    #[error("the token has expired; sign in again or refresh it")]
    Expired,
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let reason = if error == TokenError::Expired { "token_expired" } else { "token_invalid" };
        Self::new(ErrorKind::Unauthenticated, reason, error.to_string())
    }
}

/// Which kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenClass {
    /// Says who somebody is.
    Access,
    /// Lets one session play one title.
    Playback,
}

impl TokenClass {
    const fn typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Playback => "play+jwt",
        }
    }
}

/// Public keys by their id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jwks(HashMap<String, [u8; 32]>);

impl Jwks {
    /// Adds an Ed25519 public key.
    pub fn insert(&mut self, kid: impl Into<String>, public_key: [u8; 32]) {
        self.0.insert(kid.into(), public_key);
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains(&self, kid: &str) -> bool {
        self.0.contains_key(kid)
    }
}

impl From<&GetJwksResponse> for Jwks {
    /// Takes the keys we can verify with; others are left out.
    fn from(response: &GetJwksResponse) -> Self {
        let usable = response.keys.iter().filter(|key| key.kty == "OKP" && key.crv == "Ed25519" && key.alg == "EdDSA");
        let decoded = usable.filter_map(|key| {
            let bytes = URL_SAFE_NO_PAD.decode(&key.x).ok()?;
            Some((key.kid.clone(), <[u8; 32]>::try_from(bytes).ok()?))
        });
        Self(decoded.collect())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

/// Makes a token. `sign` is given the bytes to sign with Ed25519 and gives the 64-byte signature.
///
/// # Errors
/// When the claims are no JSON object.
pub fn encode<C: Serialize>(
    class: TokenClass,
    kid: &str,
    claims: &C,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<String, serde_json::Error> {
    let header = serde_json::to_vec(&Header { alg: "EdDSA", typ: class.typ(), kid })?;
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims)?, &mut token);
    let signature = sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// Reads an access token.
///
/// # Errors
/// Whatever is wrong with it.
pub fn verify_access(token: &str, keys: &Jwks, now: UnixMillis) -> Result<AccessClaims, TokenError> {
    let claims: AccessClaims = verify(TokenClass::Access, token, keys)?;
    check_common(&claims.iss, &claims.aud, ACCESS_AUDIENCE)?;
    claims.account()?;
    check_times(claims.iat, claims.exp, now)?;
    Ok(claims)
}

/// Reads a playback token.
///
/// # Errors
/// Whatever is wrong with it.
pub fn verify_playback(token: &str, keys: &Jwks, now: UnixMillis) -> Result<PlaybackClaims, TokenError> {
    let claims: PlaybackClaims = verify(TokenClass::Playback, token, keys)?;
    check_common(&claims.iss, &claims.aud, PLAYBACK_AUDIENCE)?;
    check_times(claims.iat, claims.exp, now)?;
    Ok(claims)
}

fn check_common(iss: &str, aud: &str, audience: &str) -> Result<(), TokenError> {
    if iss != ISSUER {
        return Err(TokenError::Claims("iss"));
    }
    if aud != audience {
        return Err(TokenError::Claims("aud"));
    }
    Ok(())
}

/// `exp` has no leeway: the instant it names is already too late.
pub(crate) fn check_times(iat: i64, exp: i64, now: UnixMillis) -> Result<(), TokenError> {
    let seconds = now / 1000;
    if iat > seconds + ISSUED_LEEWAY_SECONDS {
        return Err(TokenError::Claims("iat"));
    }
    if exp <= seconds { Err(TokenError::Expired) } else { Ok(()) }
}

fn verify<C: DeserializeOwned>(class: TokenClass, token: &str, keys: &Jwks) -> Result<C, TokenError> {
    if token.len() > MAX_TOKEN {
        return Err(TokenError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    if payload.contains('.') {
        return Err(TokenError::Malformed);
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
    let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
    let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
    if header.alg != "EdDSA" || header.typ != class.typ() {
        return Err(TokenError::Malformed);
    }
    let key = keys.0.get(header.kid).ok_or(TokenError::UnknownKey)?;
    UnparsedPublicKey::new(&ED25519, key).verify(signed.as_bytes(), &signature).map_err(|_| TokenError::Signature)?;
    serde_json::from_slice(&payload).map_err(|_| TokenError::Claims("set of claims"))
}

impl fmt::Display for TokenClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.typ())
    }
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;

//! Whom the credentials of a call prove.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};
use streamgate_core::{Account, ErrorKind, Failure, Identity, time::now_ms};
use streamgate_proto::streamgate::auth::v1::AuthenticateApiKeyRequest;
use tonic::Code;

use crate::{credential, keys::identity_unknown, mesh::Mesh, verifier::TokenVerifier};

/// What every API key begins with.
const API_KEY_PREFIX: &str = "sgk_";
/// Longest API key that is looked at.
const MAX_API_KEY: usize = 256;

/// Tells who calls from the headers of a call.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Whom the headers prove. No credentials at all is anonymous; bad ones never are.
    ///
    /// # Errors
    /// `Unauthenticated` for bad credentials, `Unavailable` when they can't be checked now.
    async fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, Failure>;
}

/// Knows services by their HMAC, tokens by auth's keys, and API keys by asking auth.
#[derive(Debug, Clone)]
pub struct MeshAuthenticator {
    mesh: Mesh,
    tokens: TokenVerifier,
}

impl MeshAuthenticator {
    /// An authenticator that shares what it knows with all others of `mesh`.
    #[must_use]
    pub fn new(mesh: &Mesh) -> Self {
        Self { mesh: mesh.clone().into_itself(), tokens: TokenVerifier::new(mesh.clone()) }
    }

    async fn bearer(&self, token: &str) -> Result<Identity, Failure> {
        if token.starts_with(API_KEY_PREFIX) {
            return self.api_key(token).await;
        }
        let claims = self.tokens.access(token).await?;
        Ok(Identity::Account(claims.account()?))
    }

    async fn api_key(&self, key: &str) -> Result<Identity, Failure> {
        if key.len() > MAX_API_KEY {
            return Err(invalid("the API key is not valid"));
        }
        let digest = Sha256::digest(key.as_bytes()).into();
        let answer = self.mesh.api_keys().try_get_with(digest, self.ask(key)).await;
        match answer {
            Ok(Some(account)) => Ok(Identity::Account(account)),
            Ok(None) => Err(invalid("the API key is not valid; it may have been revoked")),
            Err(failure) => Err(Failure::clone(&failure)),
        }
    }

    async fn ask(&self, key: &str) -> Result<Option<Account>, Failure> {
        let request = AuthenticateApiKeyRequest { secret: key.to_owned() };
        let answer = match self.mesh.auth().authenticate_api_key(request).await {
            Ok(response) => response.into_inner().account,
            Err(status) => match status.code() {
                Code::Unauthenticated | Code::NotFound | Code::InvalidArgument | Code::PermissionDenied => return Ok(None),
                _ => return Err(identity_unknown()),
            },
        };
        let parsed = answer.and_then(|account| {
            let wallet = Some(account.wallet).filter(|wallet| !wallet.is_empty());
            Some(Account { id: account.account_id.parse().ok()?, role: account.role.parse().ok()?, wallet })
        });
        parsed.map(Some).ok_or_else(identity_unknown)
    }
}

#[async_trait]
impl Authenticator for MeshAuthenticator {
    async fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, Failure> {
        if let Some(outcome) = credential::verify(headers, self.mesh.secret(), now_ms()) {
            return outcome;
        }
        match bearer_of(headers)? {
            Some(token) => self.bearer(token).await,
            None => Ok(Identity::Anonymous),
        }
    }
}

/// The bearer token in the headers.
fn bearer_of(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid("send one authorization header, not several"));
    }
    let parsed = value.to_str().ok().and_then(|text| text.split_once(' '));
    match parsed.map(|(scheme, token)| (scheme, token.trim())) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => Ok(Some(token)),
        _ => Err(invalid("the authorization header must be: Bearer, a space, and a token or API key")),
    }
}

fn invalid(message: &str) -> Failure {
    Failure::new(ErrorKind::Unauthenticated, "token_invalid", message)
}

impl Mesh {
    /// The authenticator of a service of this mesh.
    #[must_use]
    pub fn authenticator(&self) -> Arc<dyn Authenticator> {
        Arc::new(MeshAuthenticator::new(self))
    }
}

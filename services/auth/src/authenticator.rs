//! Whom the callers of this very service are: it need not ask itself over the network.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use http::{HeaderMap, header::AUTHORIZATION};
use streamgate_client::{Authenticator, SERVICE_HEADER};
use streamgate_core::{ErrorKind, Failure, Identity};

use crate::engine::{self, Engine};

/// Knows tokens and API keys from the engine, and services from the mesh.
#[derive(Clone)]
pub struct LocalAuthenticator {
    engine: Engine,
    mesh: Arc<dyn Authenticator>,
}

impl LocalAuthenticator {
    /// Over `engine`; `mesh` knows the credentials of services.
    #[must_use]
    pub fn new(engine: Engine, mesh: Arc<dyn Authenticator>) -> Self {
        Self { engine, mesh }
    }
}

#[async_trait]
impl Authenticator for LocalAuthenticator {
    async fn authenticate(&self, headers: &HeaderMap) -> Result<Identity, Failure> {
        if headers.contains_key(SERVICE_HEADER) {
            return self.mesh.authenticate(headers).await;
        }
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(Identity::Anonymous) };
        let parts = value.to_str().ok().filter(|_| values.next().is_none()).and_then(|text| text.split_once(' '));
        match parts.map(|(scheme, token)| (scheme, token.trim())) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") && key.starts_with(engine::API_KEY_PREFIX) => {
                Ok(Identity::Account(self.engine.authenticate_api_key(key).await?))
            }
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => {
                Ok(Identity::Account(self.engine.verify_access(token).await?.account()?))
            }
            _ => Err(Failure::new(
                ErrorKind::Unauthenticated,
                "token_invalid",
                "the authorization header must be: Bearer, a space, and a token or API key",
            )),
        }
    }
}

impl fmt::Debug for LocalAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalAuthenticator(..)")
    }
}

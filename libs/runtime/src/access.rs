//! The one place where gRPC callers are authenticated and their access is checked.

use std::sync::Arc;

use http::request::Parts;
use streamgate_client::{Authenticator, RequestContext};
use streamgate_core::{Access, Caller, Failure};

/// Knows who calls, and who may.
#[derive(Clone)]
pub(crate) struct Gatekeeper {
    authenticator: Arc<dyn Authenticator>,
}

impl Gatekeeper {
    pub(crate) fn new(authenticator: Arc<dyn Authenticator>) -> Self {
        Self { authenticator }
    }

    /// Puts the caller into the request, or refuses it.
    ///
    /// A path of no contract passes without a caller: health, reflection, and what tonic itself
    /// answers as unimplemented. Handlers of ours can't run there, since each RPC of a contract
    /// declares its access.
    ///
    /// # Errors
    /// Why the call is refused, and who made it, if that is known.
    pub(crate) async fn admit(&self, parts: &mut Parts, context: &RequestContext) -> Result<Option<Caller>, Refused> {
        let Some(access) = Access::of_method(parts.uri.path()) else { return Ok(None) };
        let authenticated = self.authenticator.authenticate(&parts.headers).await;
        let identity = authenticated.map_err(|failure| Refused { caller: None, failure })?;
        let caller = Caller { identity, request_id: context.request_id.to_string() };
        match access.admit(&caller) {
            Ok(()) => {
                parts.extensions.insert(caller.clone());
                Ok(Some(caller))
            }
            Err(failure) => Err(Refused { caller: Some(caller), failure }),
        }
    }
}

/// A call that does not reach its handler.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Who made it, if that is known.
    pub(crate) caller: Option<Caller>,
    /// Why.
    pub(crate) failure: Failure,
}

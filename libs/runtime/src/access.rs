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
    pub(crate) async fn admit(&self, parts: &mut Parts, context: &RequestContext) -> Result<(), Failure> {
        let Some(access) = Access::of_method(parts.uri.path()) else { return Ok(()) };
        let identity = self.authenticator.authenticate(&parts.headers).await?;
        let caller = Caller { identity, request_id: context.request_id.clone() };
        access.admit(&caller)?;
        parts.extensions.insert(caller);
        Ok(())
    }
}

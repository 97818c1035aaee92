//! What a service is to the runtime.

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use streamgate_core::ServiceName;

use crate::{Boot, Service};

/// Any error, as it comes out of building a service or running a task.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service's section of the configuration.
///
/// Implementations derive `Deserialize` with `#[serde(default, deny_unknown_fields)]`, so that
/// every key has a default and a misspelt one is refused.
pub trait ServiceConfig: DeserializeOwned + Default + Send + Sync + 'static {
    /// Checks what types can't say.
    ///
    /// # Errors
    /// One sentence that names the key, what is wrong and what would be right.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A service that needs no configuration.
impl ServiceConfig for () {}

/// One of the nine services.
#[async_trait]
pub trait App: Sized + 'static {
    /// Its name.
    const NAME: ServiceName;
    /// Its section of the configuration.
    type Config: ServiceConfig;

    /// Builds the service. Its listener is bound already, but nothing is served yet, and the
    /// other services may not be up: calls to them belong into tasks and handlers.
    async fn build(boot: Boot<Self::Config>) -> Result<Service, BoxError>;
}

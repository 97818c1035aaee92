//! Events of titles that concern running sessions.

use std::sync::Arc;

use async_trait::async_trait;
use streamgate_core::Failure;
use streamgate_proto::streamgate::events::v1::{Event, event::Payload};
use streamgate_store::EventHandler;

use crate::engine::Engine;

/// Ends or checks sessions when their title changes. Both effects may be repeated without harm, so
/// no event needs to be remembered.
#[derive(Debug)]
pub struct TitleEvents {
    engine: Arc<Engine>,
}

impl TitleEvents {
    /// Events for `engine`.
    #[must_use]
    pub const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[async_trait]
impl EventHandler for TitleEvents {
    async fn handle(&self, event: Event) -> Result<(), Failure> {
        match event.payload {
            Some(Payload::MetadataDeleted(deleted)) => Ok(self.engine.title_deleted(&deleted.content_id).await?),
            Some(Payload::GateChanged(changed)) => Ok(self.engine.gate_changed(&changed.content_id).await?),
            _ => Ok(()),
        }
    }
}

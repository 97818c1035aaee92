//! `deliver_webhook`: one event to one endpoint.

use std::time::Duration;

use async_trait::async_trait;
use streamgate_core::Failure;
use streamgate_proto::streamgate::worker::v1::job_params::Kind;

use super::{JobError, JobType};
use crate::{
    engine::Work,
    webhooks::{ATTEMPTS, JOB_TYPE, Webhooks, wait_after},
};

/// Delivers what the webhooks have queued.
#[derive(Debug)]
pub struct DeliverWebhook {
    webhooks: Webhooks,
}

impl DeliverWebhook {
    /// Delivers for `webhooks`.
    #[must_use]
    pub const fn new(webhooks: Webhooks) -> Self {
        Self { webhooks }
    }
}

#[async_trait]
impl JobType for DeliverWebhook {
    fn name(&self) -> &'static str {
        JOB_TYPE
    }

    fn max_attempts(&self) -> u32 {
        ATTEMPTS
    }

    fn wait_after(&self, attempt: u32) -> Duration {
        wait_after(attempt, &mut rand::rng())
    }

    /// A delivery is no event: else it would be delivered too.
    fn is_announced(&self) -> bool {
        false
    }

    fn check(&self, _: Option<&Kind>) -> Result<(), Failure> {
        Err(Failure::invalid_field("type", "is queued by events alone; replay a delivery instead"))
    }

    async fn run(&self, work: &Work) -> Result<String, JobError> {
        let Some(Kind::DeliverWebhook(params)) = &work.params else {
            return Err(JobError::Hopeless("the job names no delivery".to_owned()));
        };
        self.webhooks.deliver(&params.delivery_id, work.attempt >= work.max_attempts).await
    }
}

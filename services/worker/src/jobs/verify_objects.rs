//! `verify_objects`: reads stored sources again and compares them with the hashes they came with.

use std::time::Duration;

use async_trait::async_trait;
use streamgate_client::Mesh;
use streamgate_core::{Failure, ServiceName};
use streamgate_proto::streamgate::{upload::v1::VerifyObjectsRequest, worker::v1::job_params::Kind};

use super::{JobError, JobType, said};
use crate::engine::Work;

/// Objects of one call; the upload service itself ends a call that reads for too long.
const BATCH: u32 = 100;
/// Objects of a job that an operator queues without a number.
const DEFAULT_LIMIT: u32 = 1_000;
const MAX_LIMIT: u32 = 1_000_000;
/// Calls without an object in between: one very large object takes several.
const MAX_CALLS_FOR_ONE: u32 = 10_000;
/// Damaged objects that a message names.
const NAMED: usize = 10;

/// What one call found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Objects that were read to their end.
    pub checked: u32,
    /// Uploads whose source is not what came.
    pub corrupt: Vec<String>,
    /// Where to go on; empty at the end.
    pub next: String,
}

/// Checks some objects.
#[async_trait]
pub trait Verify: Send + Sync + 'static {
    /// Goes on at `place`, empty for the beginning.
    async fn verify(&self, limit: u32, place: String) -> Result<Verified, Failure>;
}

#[async_trait]
impl Verify for Mesh {
    async fn verify(&self, limit: u32, page_token: String) -> Result<Verified, Failure> {
        let asked = VerifyObjectsRequest { limit, page_token };
        let answer = self.upload().verify_objects(asked).await.map_err(|status| Failure::from(&status))?.into_inner();
        Ok(Verified { checked: answer.checked, corrupt: answer.corrupt_upload_ids, next: answer.next_page_token })
    }
}

/// Asks the upload service to check objects, until the limit or the end is reached.
#[derive(Debug)]
pub struct VerifyObjects<V> {
    objects: V,
    interval: Duration,
}

impl<V: Verify> VerifyObjects<V> {
    /// Checks `objects` every `interval`.
    #[must_use]
    pub const fn new(objects: V, interval: Duration) -> Self {
        Self { objects, interval }
    }
}

#[async_trait]
impl<V: Verify> JobType for VerifyObjects<V> {
    fn name(&self) -> &'static str {
        "verify_objects"
    }

    fn every(&self) -> Option<Duration> {
        Some(self.interval)
    }

    fn check(&self, params: Option<&Kind>) -> Result<(), Failure> {
        match params {
            None => Ok(()),
            Some(Kind::VerifyObjects(params)) if params.limit <= MAX_LIMIT => Ok(()),
            Some(Kind::VerifyObjects(_)) => {
                Err(Failure::invalid_field("params.verify_objects.limit", format!("must be at most {MAX_LIMIT}")))
            }
            Some(_) => Err(Failure::invalid_field("params", "must be those of verify_objects")),
        }
    }

    async fn run(&self, work: &Work) -> Result<String, JobError> {
        let limit = match &work.params {
            Some(Kind::VerifyObjects(params)) if params.limit > 0 => params.limit,
            Some(_) => DEFAULT_LIMIT,
            // The clock asks for all of them.
            None => MAX_LIMIT,
        };
        let (mut place, mut checked, mut corrupt, mut idle) = (String::new(), 0, Vec::new(), 0);
        let mut broke_off = String::new();
        while checked < limit {
            let found = match self.objects.verify(BATCH.min(limit - checked), place).await {
                Ok(found) => found,
                Err(failure) => {
                    broke_off = format!(", then {}", said(ServiceName::Upload, &failure));
                    break;
                }
            };
            checked = checked.saturating_add(found.checked);
            idle = if found.checked == 0 { idle + 1 } else { 0 };
            work.at(f64::from(checked.min(limit)) / f64::from(limit));
            corrupt.extend(found.corrupt);
            place = found.next;
            if place.is_empty() {
                break;
            }
            if idle == MAX_CALLS_FOR_ONE {
                broke_off = format!(", then none in {idle} calls");
                break;
            }
        }
        if corrupt.is_empty() && !broke_off.is_empty() {
            return Err(JobError::Retry(format!("checked {checked} objects{broke_off}")));
        }
        if corrupt.is_empty() {
            return Ok(format!("checked {checked} objects: all are what came"));
        }
        // No attempt mends them; a dead letter is what somebody looks at. Another attempt might break off before it came to
        // them, and say nothing of them.
        let named = corrupt.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        Err(JobError::Hopeless(format!("checked {checked} objects: {} are damaged: {named}{broke_off}", corrupt.len())))
    }
}

//! Decode, call, encode.

use streamgate_core::{ServiceName, time::to_timestamp};
use streamgate_proto::streamgate::monitor::v1::{self as pb, monitor_service_server::MonitorService};
use tonic::{Request, Response, Status};

use crate::{
    Error,
    engine::{Sample, Seen, ServiceHealth, State},
};

/// The service as gRPC sees it.
#[derive(Debug, Clone)]
pub struct Handler {
    seen: Seen,
}

impl Handler {
    /// Answers from what was `seen`.
    #[must_use]
    pub const fn new(seen: Seen) -> Self {
        Self { seen }
    }

    fn metrics_of(&self, service: ServiceName) -> pb::ServiceMetrics {
        let scrape = self.seen.scrape(service);
        pb::ServiceMetrics {
            service: service.to_string(),
            scrape_time: scrape.as_ref().map(|scrape| to_timestamp(scrape.at_ms)),
            samples: scrape.map(|scrape| scrape.samples.iter().map(encode_sample).collect()).unwrap_or_default(),
        }
    }
}

#[tonic::async_trait]
impl MonitorService for Handler {
    async fn get_health(&self, _: Request<pb::GetHealthRequest>) -> Result<Response<pb::GetHealthResponse>, Status> {
        let (overall, all) = self.seen.health();
        let services = all.into_iter().map(encode_health).collect();
        Ok(Response::new(pb::GetHealthResponse { status: overall.as_str().to_owned(), services }))
    }

    async fn get_metrics(&self, request: Request<pb::GetMetricsRequest>) -> Result<Response<pb::GetMetricsResponse>, Status> {
        let name = request.into_inner().service;
        let services = if name.is_empty() {
            ServiceName::ALL.into_iter().map(|service| self.metrics_of(service)).collect()
        } else {
            vec![self.metrics_of(name.parse().map_err(Error::UnknownService)?)]
        };
        Ok(Response::new(pb::GetMetricsResponse { services }))
    }
}

fn encode_health(health: ServiceHealth) -> pb::ServiceHealth {
    let state = match health.state {
        State::Unknown => pb::HealthState::Unspecified,
        State::Serving => pb::HealthState::Serving,
        State::NotServing => pb::HealthState::NotServing,
        State::Unreachable => pb::HealthState::Unreachable,
    };
    pb::ServiceHealth {
        service: health.service.to_string(),
        state: state.into(),
        latency_ms: u32::try_from(health.latency.as_millis()).unwrap_or(u32::MAX),
        since: Some(to_timestamp(health.since_ms)),
        detail: health.detail,
    }
}

fn encode_sample(sample: &Sample) -> pb::Sample {
    pb::Sample { name: sample.name.clone(), labels: sample.labels.clone().into_iter().collect(), value: sample.value }
}

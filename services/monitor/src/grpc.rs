//! Decode, call, encode.

use std::time::Duration;

use futures::StreamExt as _;
use streamgate_core::{
    Caller, ErrorKind, Failure, Identity, ServiceName,
    ids::AlertId,
    time::{now_ms, to_timestamp},
};
use streamgate_proto::streamgate::monitor::v1::{self as pb, monitor_service_server::MonitorService};
use streamgate_runtime::{CancellationToken, LINES_TAKEN};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    Error, Metrics,
    codec::{self, encode_alert, encode_health, encode_line, encode_rule, encode_system},
    engine::{
        Seen, SystemWatch,
        alerts::{AlertStore, Evaluator},
        logs::{Logs, MAX_BATCH},
    },
};

/// Characters of the note of an acknowledgement.
const MAX_NOTE_CHARS: usize = 500;
/// When a sender may look for another monitor than one that stops.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The service as gRPC sees it.
#[derive(Debug, Clone)]
pub struct Handler {
    /// Health and metrics.
    pub seen: Seen,
    /// The machine.
    pub system: SystemWatch,
    /// Alerts.
    pub alerts: AlertStore,
    /// Rules.
    pub evaluator: Evaluator,
    /// The log.
    pub logs: Logs,
    /// What is counted.
    pub metrics: Metrics,
    /// Ends calls that would stay open, so that they do not hold up a drain.
    pub stop: CancellationToken,
}

impl Handler {
    fn metrics_of(&self, service: ServiceName) -> pb::ServiceMetrics {
        let scraped_ms = self.seen.scraped_ms(service);
        // The newest stay while all of a service is away; an instance that lags behind is not added to the others.
        let since = self.evaluator.fresh_since(scraped_ms.unwrap_or_default());
        pb::ServiceMetrics {
            service: service.to_string(),
            scrape_time: scraped_ms.map(to_timestamp),
            samples: self.seen.samples(service, since).into_iter().map(codec::encode_sample).collect(),
            requests: self.seen.requests(service, since).map(codec::encode_requests),
        }
    }

    /// Takes lines until the sender has no more, and counts those of whole batches.
    async fn take_lines(&self, sender: &str, mut batches: Streaming<pb::PushLogsRequest>, taken: &mut u64) -> Result<(), Status> {
        loop {
            let Some(next) = self.stop.run_until_cancelled(batches.next()).await else {
                // What is under way will not be taken, and the sender must not believe that it was.
                let stopping =
                    Failure::new(ErrorKind::Unavailable, "stopping", "the monitor stops; send the rest to the next one");
                return Err(stopping.retry_after(RETRY_AFTER).into());
            };
            let Some(batch) = next else { return Ok(()) };
            // A service that dies breaks off, and that is no error of ours.
            let gone = |_| Failure::new(ErrorKind::Cancelled, "sender_gone", "the sender broke off");
            let pb::PushLogsRequest { lines, dropped } = batch.map_err(gone)?;
            if lines.len() > MAX_BATCH {
                return Err(Failure::invalid_field("lines", format!("must be at most {MAX_BATCH}")).into());
            }
            let count = lines.len() as u64;
            self.logs.add(lines.into_iter().map(|line| codec::decode_line(line, sender, now_ms())).collect()).await?;
            self.metrics.log_lines_dropped.inc_by(dropped);
            self.metrics.log_lines.inc_by(count);
            *taken = taken.saturating_add(count).saturating_add(dropped);
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
        Ok(Response::new(pb::GetMetricsResponse { services, system: Some(encode_system(&self.system.latest())) }))
    }

    async fn list_alerts(&self, request: Request<pb::ListAlertsRequest>) -> Result<Response<pb::ListAlertsResponse>, Status> {
        let request = request.into_inner();
        let state = codec::decode_alert_state(request.state)?;
        let (alerts, next_page_token) = self.alerts.list(state, &request.rule, request.page_size, &request.page_token).await?;
        Ok(Response::new(pb::ListAlertsResponse { alerts: alerts.into_iter().map(encode_alert).collect(), next_page_token }))
    }

    async fn acknowledge_alert(
        &self,
        request: Request<pb::AcknowledgeAlertRequest>,
    ) -> Result<Response<pb::AcknowledgeAlertResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id: AlertId = request.alert_id.parse().map_err(|bad| Failure::invalid_field("alert_id", format!("{bad}")))?;
        if request.note.chars().count() > MAX_NOTE_CHARS || request.note.contains('\0') {
            return Err(Failure::invalid_field("note", format!("must be at most {MAX_NOTE_CHARS} characters of text")).into());
        }
        let by = caller.account().map_or_else(|| "a service".to_owned(), |account| account.id.to_string());
        let alert = self.alerts.acknowledge(&id, &by, &request.note, now_ms()).await?;
        Ok(Response::new(pb::AcknowledgeAlertResponse { alert: Some(encode_alert(alert)) }))
    }

    async fn list_alert_rules(
        &self,
        _: Request<pb::ListAlertRulesRequest>,
    ) -> Result<Response<pb::ListAlertRulesResponse>, Status> {
        let rules = self.evaluator.rules().await.into_iter().map(encode_rule).collect();
        Ok(Response::new(pb::ListAlertRulesResponse { rules }))
    }

    async fn search_logs(&self, request: Request<pb::SearchLogsRequest>) -> Result<Response<pb::SearchLogsResponse>, Status> {
        let request = request.into_inner();
        let (size, token) = (request.page_size, request.page_token.clone());
        let (lines, next_page_token) = self.logs.search(&codec::decode_search(request)?, size, &token).await?;
        Ok(Response::new(pb::SearchLogsResponse { lines: lines.into_iter().map(encode_line).collect(), next_page_token }))
    }

    async fn push_logs(
        &self,
        request: Request<Streaming<pb::PushLogsRequest>>,
    ) -> Result<Response<pb::PushLogsResponse>, Status> {
        // The name in a line is the sender's word, and the sender has proved that it is of the mesh.
        let sender = match Caller::of(&request)?.identity {
            Identity::Service { name, .. } => name.as_str(),
            Identity::Account(_) | Identity::Anonymous => "",
        };
        let mut taken = 0;
        let outcome = self.take_lines(sender, request.into_inner(), &mut taken).await;
        outcome.map(|()| Response::new(pb::PushLogsResponse {})).map_err(|mut status| {
            status.metadata_mut().insert(LINES_TAKEN, taken.into());
            status
        })
    }
}

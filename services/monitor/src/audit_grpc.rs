//! Decode, call, encode: the audit log.

use streamgate_core::{Failure, time::now_ms};
use streamgate_proto::streamgate::audit::v1::{self as pb, audit_service_server::AuditService};
use tonic::{Request, Response, Status};

use crate::{
    Metrics,
    codec::{decode_audit_wanted, decode_entry, decode_place, encode_entry, encode_verdict},
    engine::audit::{Audit, MAX_BATCH},
};

/// The audit log as gRPC sees it.
#[derive(Debug, Clone)]
pub struct AuditHandler {
    /// The log.
    pub audit: Audit,
    /// What is counted.
    pub metrics: Metrics,
}

#[tonic::async_trait]
impl AuditService for AuditHandler {
    async fn list_entries(&self, request: Request<pb::ListEntriesRequest>) -> Result<Response<pb::ListEntriesResponse>, Status> {
        let request = request.into_inner();
        let (size, token) = (request.page_size, request.page_token.clone());
        let (entries, next_page_token) = self.audit.list(&decode_audit_wanted(request)?, size, &token).await?;
        Ok(Response::new(pb::ListEntriesResponse { entries: entries.into_iter().map(encode_entry).collect(), next_page_token }))
    }

    async fn verify_chain(&self, request: Request<pb::VerifyChainRequest>) -> Result<Response<pb::VerifyChainResponse>, Status> {
        let request = request.into_inner();
        let start = decode_place("start", request.start_sequence, request.start_hash)?;
        let anchor = decode_place("anchor", request.anchor_sequence, request.anchor_hash)?;
        let verdict = self.audit.verify(start, anchor).await?;
        if let Some((broken_sequence, detail)) = &verdict.broken {
            tracing::error!(broken_sequence, detail, "the audit log was changed");
        }
        Ok(Response::new(encode_verdict(verdict)))
    }

    async fn append_entries(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Result<Response<pb::AppendEntriesResponse>, Status> {
        let entries = request.into_inner().entries;
        if entries.len() > MAX_BATCH {
            return Err(Failure::invalid_field("entries", format!("must be at most {MAX_BATCH}")).into());
        }
        if entries.iter().any(|entry| entry.entry_id.is_empty()) {
            return Err(Failure::invalid_field("entries.entry_id", "must be given").into());
        }
        let missing = entries.iter().map(|entry| entry.missing_before).sum();
        let added = self.audit.append(entries.into_iter().map(|entry| decode_entry(entry, now_ms())).collect()).await?;
        if added > 0 {
            self.metrics.audit_entries.inc_by(added as u64);
            self.metrics.audit_missing.inc_by(missing);
        }
        Ok(Response::new(pb::AppendEntriesResponse {}))
    }
}

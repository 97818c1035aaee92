//! The audit log, on the side of the service that answers: who did what to which object, and
//! whether it was allowed.
//!
//! Noted is each call that may change something, unless a service makes it for itself, and each
//! call that is refused. The entry is in a file before the answer leaves; a task brings it to the
//! monitor, which chains it.

mod budget;
mod object;
mod ship;
mod spool;
mod watch;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::metrics::counter::Counter;
use streamgate_core::{
    Caller, Failure, Identity, ServiceName,
    ids::AuditEntryId,
    time::{now_ms, to_timestamp},
};
use streamgate_proto::streamgate::audit::v1::{AuditEntry, AuditOutcome};
use tokio::sync::Notify;

use self::{budget::Budget, spool::Spool};
use crate::Metrics;

pub(crate) use ship::ship;
pub(crate) use watch::Watched;

/// Notes calls of one service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Auditor(Arc<Inner>);

struct Inner {
    service: ServiceName,
    state: Mutex<State>,
    wake: Notify,
    entries: Counter,
    missed: Counter,
}

struct State {
    spool: Spool,
    budget: Budget,
    /// Calls that could not be noted since the last entry.
    missing: u64,
    /// Whether the last try to write failed; it is logged once.
    is_failing: bool,
}

/// What is noted of a call.
pub(crate) struct Noted<'a> {
    /// The RPC.
    pub(crate) method: &'a str,
    /// Who called; absent when that is not known.
    pub(crate) caller: Option<&'a Caller>,
    /// What it is about.
    pub(crate) object: String,
    /// Why it was not done, if it was not.
    pub(crate) failure: Option<&'a Failure>,
    /// The request.
    pub(crate) request_id: &'a str,
}

impl Auditor {
    /// Opens the files of `service` under the data folder.
    pub(crate) fn open(data_dir: &Path, service: ServiceName, metrics: &Metrics) -> io::Result<Self> {
        let spool = Spool::open(&data_dir.join("audit"), service)?;
        let state = Mutex::new(State { spool, budget: Budget::new(), missing: 0, is_failing: false });
        let entries = metrics.counter("audit_entries", "Calls noted for the audit log");
        let missed = metrics.counter("audit_missed", "Calls that could not be noted for the audit log, for want of room");
        Ok(Self(Arc::new(Inner { service, state, wake: Notify::new(), entries, missed })))
    }

    /// Notes a call, before its answer leaves.
    pub(crate) fn note(&self, noted: &Noted<'_>) {
        let outcome = outcome(noted.failure);
        let mut state = self.state();
        // Strangers choose how often they are refused. Who is known is always noted.
        let is_known = noted.caller.is_some_and(|caller| caller.account().is_some());
        let is_free = is_known && outcome == AuditOutcome::Allowed;
        if !is_free && !state.budget.take() {
            return self.missed(&mut state);
        }
        let mut entry = self.entry(noted, outcome);
        entry.missing_before = state.missing;
        match state.spool.add(&entry) {
            Ok(()) => {
                (state.missing, state.is_failing) = (0, false);
                self.0.entries.inc();
                self.0.wake.notify_one();
            }
            Err(error) => {
                if !std::mem::replace(&mut state.is_failing, true) {
                    tracing::error!(%error, "calls can't be noted for the audit log; they are counted");
                }
                self.missed(&mut state);
            }
        }
    }

    /// Counts an entry that was noted and can't be read back.
    fn count_missing(&self) {
        self.missed(&mut self.state());
    }

    fn missed(&self, state: &mut State) {
        state.missing = state.missing.saturating_add(1);
        self.0.missed.inc();
    }

    fn entry(&self, noted: &Noted<'_>, outcome: AuditOutcome) -> AuditEntry {
        let account = noted.caller.and_then(Caller::account);
        let actor = match (account, noted.caller.map(|caller| &caller.identity)) {
            (Some(account), _) => format!("account:{}", account.id),
            (None, Some(Identity::Service { name, .. })) => format!("service:{name}"),
            (None, _) => "anonymous".to_owned(),
        };
        AuditEntry {
            entry_id: AuditEntryId::new().to_string(),
            time: Some(to_timestamp(now_ms())),
            service: self.0.service.to_string(),
            method: noted.method.to_owned(),
            actor,
            actor_role: account.map(|account| account.role.to_string()).unwrap_or_default(),
            actor_wallet: account.and_then(|account| account.wallet.clone()).unwrap_or_default(),
            object: noted.object.clone(),
            outcome: outcome.into(),
            reason: noted.failure.map(|failure| failure.reason.to_string()).unwrap_or_default(),
            request_id: noted.request_id.to_owned(),
            ..AuditEntry::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outcome(failure: Option<&Failure>) -> AuditOutcome {
    use streamgate_core::ErrorKind::{PermissionDenied, Unauthenticated};
    match failure.map(|failure| failure.kind) {
        None => AuditOutcome::Allowed,
        Some(Unauthenticated | PermissionDenied) => AuditOutcome::Refused,
        Some(_) => AuditOutcome::Failed,
    }
}

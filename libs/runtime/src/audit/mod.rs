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

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use streamgate_core::{
    Caller, Failure, Identity, ServiceName,
    ids::AuditEntryId,
    time::{now_ms, to_timestamp},
};
use streamgate_proto::streamgate::audit::v1::{AuditEntry, AuditOutcome};
use tokio::sync::Notify;

use self::{budget::Budgets, spool::Spool};
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
    unreadable: Gauge,
}

struct State {
    spool: Spool,
    budgets: Budgets,
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
        let state = Mutex::new(State { spool, budgets: Budgets::new(), missing: 0, is_failing: false });
        let entries = metrics.counter("audit_entries", "Calls noted for the audit log");
        let missed = metrics.counter("audit_missed", "Calls that could not be noted for the audit log, for want of room");
        let unreadable =
            metrics.gauge("audit_unreadable_files", "Files of entries for the audit log that can't be read, and wait for it");
        Ok(Self(Arc::new(Inner { service, state, wake: Notify::new(), entries, missed, unreadable })))
    }

    /// Notes a call, before its answer leaves. A flood of calls is counted instead, except of those that are always noted.
    pub(crate) fn note(&self, noted: &Noted<'_>) {
        let outcome = outcome(noted.failure);
        let mut state = self.state();
        if !state.budgets.take(noted.caller, outcome) {
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

#[cfg(test)]
impl Auditor {
    /// What was noted and not sent.
    pub(crate) fn entries(&self) -> Vec<AuditEntry> {
        let path = self.state().spool.oldest(tokio::time::Instant::now());
        path.map(|path| spool::read(&path).unwrap().entries).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use streamgate_core::{Account, ErrorKind, Role, ids::AccountId};

    use super::*;

    fn note(auditor: &Auditor, identity: Identity, kind: Option<ErrorKind>, request_id: &str) {
        let caller = Caller { identity, request_id: request_id.to_owned() };
        let failure = kind.map(|kind| Failure::new(kind, "no", "no"));
        let noted =
            Noted { method: "/a.B/C", caller: Some(&caller), object: String::new(), failure: failure.as_ref(), request_id };
        auditor.note(&noted);
    }

    #[test]
    fn a_flood_of_strangers_hides_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let auditor = Auditor::open(folder.path(), ServiceName::Auth, &Metrics::new(ServiceName::Auth)).unwrap();
        for _ in 0..10_000 {
            note(&auditor, Identity::Anonymous, Some(ErrorKind::Unauthenticated), "flood");
            note(&auditor, Identity::Anonymous, Some(ErrorKind::InvalidArgument), "flood");
        }
        let account = || Identity::Account(Account { id: AccountId::new(), role: Role::Viewer, wallet: None });
        let service = Identity::Service { name: ServiceName::Upload, on_behalf_of: None };
        for _ in 0..10_000 {
            note(&auditor, Identity::Anonymous, None, "login");
        }
        note(&auditor, service, Some(ErrorKind::PermissionDenied), "service");
        for _ in 0..10_000 {
            note(&auditor, account(), Some(ErrorKind::PermissionDenied), "refused");
        }
        note(&auditor, account(), None, "allowed");
        note(&auditor, account(), Some(ErrorKind::DeadlineExceeded), "failed");
        let entries = auditor.entries();
        for request in ["login", "service", "refused", "allowed", "failed"] {
            assert!(entries.iter().any(|entry| entry.request_id == request), "{request}");
        }
        assert!(entries.len() < 10_000 && entries.iter().any(|entry| entry.missing_before > 0));
    }
}

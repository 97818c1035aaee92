//! Between wire types and those of the engine.

use streamgate_core::{
    Failure, FieldViolation, ServiceName,
    time::{UnixMillis, from_timestamp, to_timestamp},
};
use streamgate_proto::streamgate::{audit::v1 as audit_pb, monitor::v1 as pb};

use crate::engine::{
    InstanceHealth, Requests, Sample, ServiceHealth, State, System,
    alerts::{Alert, AlertState, RuleStatus},
    audit::{self, Entry, Place, Verdict},
    logs::{self, Line},
};

/// Characters of a hash.
const HASH_CHARS: usize = 64;
/// Bytes of a filter at the most.
const MAX_FILTER_BYTES: usize = 256;

const fn encode_state(state: State) -> pb::HealthState {
    match state {
        State::Unknown => pb::HealthState::Unspecified,
        State::Serving => pb::HealthState::Serving,
        State::NotServing => pb::HealthState::NotServing,
        State::Unreachable => pb::HealthState::Unreachable,
    }
}

pub(crate) fn encode_health(health: ServiceHealth) -> pb::ServiceHealth {
    pb::ServiceHealth {
        service: health.service.to_string(),
        state: encode_state(health.state).into(),
        latency_ms: u32::try_from(health.latency.as_millis()).unwrap_or(u32::MAX),
        since: Some(to_timestamp(health.since_ms)),
        detail: health.detail,
        instances: health.instances.into_iter().map(encode_instance).collect(),
    }
}

fn encode_instance(health: InstanceHealth) -> pb::InstanceHealth {
    pb::InstanceHealth {
        address: health.address,
        state: encode_state(health.state).into(),
        latency_ms: u32::try_from(health.latency.as_millis()).unwrap_or(u32::MAX),
        since: Some(to_timestamp(health.since_ms)),
        detail: health.detail,
    }
}

pub(crate) fn encode_sample(sample: Sample) -> pb::Sample {
    pb::Sample { name: sample.name, labels: sample.labels.into_iter().collect(), value: sample.value }
}

pub(crate) const fn encode_requests(requests: Requests) -> pb::RequestMetrics {
    pb::RequestMetrics {
        window_ms: requests.window_ms,
        count: requests.count,
        errors: requests.errors,
        p95_seconds: requests.p95_seconds,
    }
}

pub(crate) const fn encode_system(system: &System) -> pb::SystemMetrics {
    pb::SystemMetrics {
        cpu_ratio: system.cpu_ratio,
        memory_total_bytes: system.memory_total_bytes,
        memory_available_bytes: system.memory_available_bytes,
        disk_total_bytes: system.disk_total_bytes,
        disk_free_bytes: system.disk_free_bytes,
    }
}

pub(crate) fn encode_alert(alert: Alert) -> pb::Alert {
    let state = match alert.state() {
        AlertState::Pending => pb::AlertState::Pending,
        AlertState::Firing => pb::AlertState::Firing,
        AlertState::Acknowledged => pb::AlertState::Acknowledged,
        AlertState::Resolved => pb::AlertState::Resolved,
    };
    pb::Alert {
        state: state.into(),
        alert_id: alert.alert_id,
        rule: alert.rule,
        target: alert.target,
        severity: alert.severity,
        summary: alert.summary,
        value: alert.value,
        threshold: alert.threshold,
        pending_time: Some(to_timestamp(alert.pending_ms)),
        firing_time: alert.firing_ms.map(to_timestamp),
        acknowledge_time: alert.acknowledged_ms.map(to_timestamp),
        resolve_time: alert.resolved_ms.map(to_timestamp),
        acknowledged_by: alert.acknowledged_by,
        note: alert.note,
    }
}

/// A state to filter by; 0 is none.
pub(crate) fn decode_alert_state(number: i32) -> Result<Option<AlertState>, Failure> {
    match pb::AlertState::try_from(number) {
        Ok(pb::AlertState::Unspecified) => Ok(None),
        Ok(pb::AlertState::Pending) => Ok(Some(AlertState::Pending)),
        Ok(pb::AlertState::Firing) => Ok(Some(AlertState::Firing)),
        Ok(pb::AlertState::Acknowledged) => Ok(Some(AlertState::Acknowledged)),
        Ok(pb::AlertState::Resolved) => Ok(Some(AlertState::Resolved)),
        Err(_) => Err(Failure::invalid_field("state", "must be one of the states of an alert")),
    }
}

pub(crate) fn encode_rule((rule, inactive_reason): RuleStatus) -> pb::AlertRule {
    pb::AlertRule {
        name: rule.name,
        kind: rule.kind.as_str().to_owned(),
        severity: rule.severity.as_str().to_owned(),
        threshold: rule.threshold,
        for_ms: rule.for_ms,
        clear_ms: rule.clear_ms,
        inactive_reason,
    }
}

pub(crate) fn encode_line(line: Line) -> pb::LogLine {
    pb::LogLine {
        time: Some(to_timestamp(line.time_ms)),
        service: line.service,
        level: i32::try_from(line.level).unwrap_or_default(),
        target: line.target,
        message: line.message,
        fields: line.fields.into_iter().collect(),
        request_id: line.request_id,
        trace_id: line.trace_id,
    }
}

/// A line of a service. One without a name or a time gets the sender's and now.
pub(crate) fn decode_line(line: pb::LogLine, sender: &str, now: UnixMillis) -> Line {
    Line {
        time_ms: line.time.as_ref().map_or(now, from_timestamp),
        service: if line.service.parse::<ServiceName>().is_ok() { line.service } else { sender.to_owned() },
        level: i64::from(line.level.clamp(pb::LogLevel::Trace.into(), pb::LogLevel::Error.into())),
        target: line.target,
        message: line.message,
        fields: line.fields.into_iter().collect(),
        request_id: line.request_id,
        trace_id: line.trace_id,
    }
}

pub(crate) fn decode_search(request: pb::SearchLogsRequest) -> Result<logs::Wanted, Failure> {
    let mut wrong = Vec::new();
    check_service(&request.service, &mut wrong);
    let texts = [("request_id", &request.request_id), ("trace_id", &request.trace_id), ("text", &request.text)];
    texts.into_iter().for_each(|(field, text)| check_text(field, text, &mut wrong));
    let level = match pb::LogLevel::try_from(request.level) {
        Ok(pb::LogLevel::Unspecified) => None,
        Ok(level) => Some(i64::from(i32::from(level))),
        Err(_) => {
            wrong.push(FieldViolation::new("level", "must be one of the levels of a log"));
            None
        }
    };
    if !wrong.is_empty() {
        return Err(Failure::invalid(wrong));
    }
    Ok(logs::Wanted {
        service: request.service,
        level,
        request_id: request.request_id,
        trace_id: request.trace_id,
        text: request.text,
        start_ms: request.start_time.as_ref().map(from_timestamp),
        end_ms: request.end_time.as_ref().map(from_timestamp),
    })
}

fn check_service(service: &str, wrong: &mut Vec<FieldViolation>) {
    if !service.is_empty() && service.parse::<ServiceName>().is_err() {
        wrong.push(FieldViolation::new("service", "must be one of the nine services"));
    }
}

fn check_text(field: &str, text: &str, wrong: &mut Vec<FieldViolation>) {
    if text.len() > MAX_FILTER_BYTES || text.contains('\0') {
        wrong.push(FieldViolation::new(field, format!("must be at most {MAX_FILTER_BYTES} bytes of text")));
    }
}

pub(crate) fn decode_audit_wanted(request: audit_pb::ListEntriesRequest) -> Result<audit::Wanted, Failure> {
    let mut wrong = Vec::new();
    check_service(&request.service, &mut wrong);
    let texts = [
        ("actor", &request.actor),
        ("method", &request.method),
        ("object", &request.object),
        ("request_id", &request.request_id),
    ];
    texts.into_iter().for_each(|(field, text)| check_text(field, text, &mut wrong));
    let outcome = audit_pb::AuditOutcome::try_from(request.outcome);
    if outcome.is_err() {
        wrong.push(FieldViolation::new("outcome", "must be one of the outcomes of a call"));
    }
    if !wrong.is_empty() {
        return Err(Failure::invalid(wrong));
    }
    Ok(audit::Wanted {
        actor: request.actor,
        service: request.service,
        method: request.method,
        object: request.object,
        outcome: Some(i64::from(request.outcome)).filter(|number| *number != 0),
        request_id: request.request_id,
        start_ms: request.start_time.as_ref().map(from_timestamp),
        end_ms: request.end_time.as_ref().map(from_timestamp),
    })
}

pub(crate) fn encode_entry(entry: Entry) -> audit_pb::AuditEntry {
    audit_pb::AuditEntry {
        sequence: entry.sequence,
        entry_id: entry.entry_id,
        time: Some(to_timestamp(entry.time_ms)),
        service: entry.service,
        method: entry.method,
        actor: entry.actor,
        actor_role: entry.actor_role,
        actor_wallet: entry.actor_wallet,
        object: entry.object,
        outcome: i32::try_from(entry.outcome).unwrap_or_default(),
        reason: entry.reason,
        request_id: entry.request_id,
        missing_before: u64::try_from(entry.missing_before).unwrap_or_default(),
        previous_hash: entry.previous_hash,
        hash: entry.hash,
    }
}

/// An entry that the caller has a hash of; none with sequence 0. Half of one is a mistake that must not pass for none.
pub(crate) fn decode_place(name: &str, sequence: i64, hash: String) -> Result<Option<Place>, Failure> {
    if sequence < 0 {
        return Err(Failure::invalid_field(format!("{name}_sequence"), "must be 0 or the sequence of an entry"));
    }
    let is_hash = hash.len() == HASH_CHARS && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match sequence {
        0 if hash.is_empty() => Ok(None),
        1.. if is_hash => Ok(Some((sequence, hash))),
        _ => Err(Failure::invalid_field(format!("{name}_hash"), "must be the hash of the entry of that sequence")),
    }
}

pub(crate) fn encode_verdict(verdict: Verdict) -> audit_pb::VerifyChainResponse {
    let intact = verdict.broken.is_none() && verdict.next.is_none();
    let unfinished = verdict.next.as_ref().map(|(sequence, _)| {
        format!("entries fit up to {sequence}, and there are {}: go on with next_sequence and next_hash", verdict.head.0)
    });
    let (next_sequence, next_hash) = verdict.next.unwrap_or_default();
    let (broken_sequence, detail) = verdict.broken.unwrap_or_else(|| (0, unfinished.unwrap_or_default()));
    let (head_sequence, head_hash) = verdict.head;
    let checked = verdict.checked;
    audit_pb::VerifyChainResponse { intact, checked, broken_sequence, detail, head_sequence, head_hash, next_sequence, next_hash }
}

/// An entry that a service has noted; its place in the chain comes later.
pub(crate) fn decode_entry(entry: audit_pb::AuditEntry, now: UnixMillis) -> Entry {
    Entry {
        sequence: 0,
        entry_id: plain(entry.entry_id),
        time_ms: entry.time.as_ref().map_or(now, from_timestamp),
        service: plain(entry.service),
        method: plain(entry.method),
        actor: plain(entry.actor),
        actor_role: plain(entry.actor_role),
        actor_wallet: plain(entry.actor_wallet),
        object: plain(entry.object),
        outcome: i64::from(entry.outcome),
        reason: plain(entry.reason),
        request_id: plain(entry.request_id),
        missing_before: i64::try_from(entry.missing_before).unwrap_or(i64::MAX),
        previous_hash: String::new(),
        hash: String::new(),
    }
}

/// PostgreSQL takes no NUL, and a part that is very long is nobody's name.
fn plain(mut text: String) -> String {
    text.retain(|c| c != '\0');
    if let Some((end, _)) = text.char_indices().nth(MAX_FILTER_BYTES) {
        text.truncate(end);
    }
    text
}

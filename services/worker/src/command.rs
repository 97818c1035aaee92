//! Requests as strict commands: what the wire says, checked once.

use std::time::Duration;

use streamgate_core::{
    Caller, Failure,
    ids::{DeliveryId, JobId, WebhookId},
    time::{UnixMillis, from_timestamp, now_ms},
};
use streamgate_proto::streamgate::worker::v1 as pb;

use crate::{
    Error,
    engine::{
        CronSchedule, Filter, Priority, State, Submit,
        cron::{BadCron, CatchUp, Cron},
    },
    jobs::Registry,
    webhooks::{DeliveryState, Replay},
};

/// A job may be put off this long.
const MAX_DELAY_SECONDS: u32 = 30 * 24 * 60 * 60;
/// An ended job may be kept this long.
const MAX_KEEP_SECONDS: u32 = 365 * 24 * 60 * 60;
/// Attempts of one job.
const MOST_ATTEMPTS: u32 = 25;
/// Bytes of a request id or a unique key at the most; callers send a UUID or an id of ours.
const MAX_KEY_BYTES: usize = 128;
/// Characters of a schedule's name.
const MAX_NAME: usize = 64;
/// Keys that begin so are the service's own.
const OWN_KEYS: [&str; 4] = ["interval:", "cron:", "webhook:", "schedule:"];

/// A job to queue, for `caller`.
///
/// # Errors
/// Which field is wrong.
pub fn submit(request: pb::SubmitJobRequest, caller: &Caller, registry: &Registry) -> Result<Submit, Failure> {
    let params = request.params.and_then(|params| params.kind);
    registry.checked(&request.r#type, params.as_ref())?;
    let usual = registry.submit(&request.r#type);
    if request.max_attempts > MOST_ATTEMPTS {
        return Err(Failure::invalid_field("max_attempts", format!("must be at most {MOST_ATTEMPTS}")));
    }
    if request.keep_seconds > MAX_KEEP_SECONDS {
        return Err(Failure::invalid_field("keep_seconds", format!("must be at most {MAX_KEEP_SECONDS}")));
    }
    if OWN_KEYS.iter().any(|own| request.unique_key.starts_with(own)) {
        return Err(Failure::invalid_field("unique_key", format!("must not begin with {}", OWN_KEYS.join(" or "))));
    }
    Ok(Submit {
        delay: delay(request.delay_seconds, request.run_time.as_ref().map(from_timestamp))?,
        request_id: key("request_id", request.request_id)?,
        unique_key: key("unique_key", request.unique_key)?,
        priority: priority(request.priority)?,
        max_attempts: if request.max_attempts == 0 { usual.max_attempts } else { request.max_attempts },
        keep: Duration::from_secs(request.keep_seconds.into()),
        owner: caller.account().map(|account| account.id.to_string()).unwrap_or_default(),
        params,
        ..usual
    })
}

fn delay(seconds: u32, run_ms: Option<UnixMillis>) -> Result<Duration, Failure> {
    let Some(run_ms) = run_ms else {
        return if seconds > MAX_DELAY_SECONDS {
            Err(Failure::invalid_field("delay_seconds", format!("must be at most {MAX_DELAY_SECONDS}")))
        } else {
            Ok(Duration::from_secs(seconds.into()))
        };
    };
    if seconds != 0 {
        return Err(Failure::invalid_field("run_time", "can't stand beside delay_seconds"));
    }
    let wait = Duration::from_millis(u64::try_from(run_ms.saturating_sub(now_ms())).unwrap_or(0));
    if wait > Duration::from_secs(MAX_DELAY_SECONDS.into()) {
        return Err(Failure::invalid_field("run_time", "must be within 30 days"));
    }
    Ok(wait)
}

fn key(field: &str, text: String) -> Result<Option<String>, Failure> {
    if text.len() > MAX_KEY_BYTES || text.chars().any(char::is_control) {
        return Err(Failure::invalid_field(field, format!("must be at most {MAX_KEY_BYTES} bytes without control characters")));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn priority(number: i32) -> Result<Priority, Failure> {
    Priority::of_number(number.into()).ok_or_else(|| Failure::invalid_field("priority", "must be a priority of a job"))
}

/// Which jobs a list holds.
///
/// # Errors
/// A state that is none.
pub fn filter(state: i32, job_type: String) -> Result<Filter, Failure> {
    let job_type = type_filter(job_type)?;
    let state = match state {
        0 => None,
        number => {
            Some(State::of_number(number.into()).ok_or_else(|| Failure::invalid_field("state", "must be a state of a job"))?)
        }
    };
    Ok(Filter { state, job_type })
}

/// The kind of jobs that is meant; empty for all.
///
/// # Errors
/// What can't be the name of a kind.
pub fn type_filter(job_type: String) -> Result<String, Failure> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    if job_type.len() > MAX_NAME || !job_type.chars().all(is_name) {
        return Err(Failure::invalid_field("type", "must be a type of job"));
    }
    Ok(job_type)
}

/// A schedule and its expression.
///
/// # Errors
/// Which field is wrong.
pub fn schedule(schedule: Option<pb::Schedule>, registry: &Registry) -> Result<(CronSchedule, Cron), Error> {
    let wire = schedule.unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if wire.name.is_empty() || wire.name.len() > MAX_NAME || !wire.name.chars().all(is_plain) {
        let words = format!("must be 1 to {MAX_NAME} letters, digits, \"-\", \"_\" and \".\"");
        return Err(Failure::invalid_field("schedule.name", words).into());
    }
    let cron = Cron::parse(&wire.cron, &wire.time_zone).map_err(|bad| cron_fault(&bad))?;
    cron.after(now_ms()).map_err(|bad| cron_fault(&bad))?;
    let params = wire.params.and_then(|params| params.kind);
    registry.checked(&wire.r#type, params.as_ref()).map_err(below_schedule)?;
    let catch_up = CatchUp::of_number(wire.catch_up.into());
    let stored = CronSchedule {
        name: wire.name,
        cron: wire.cron,
        time_zone: wire.time_zone,
        catch_up: catch_up.ok_or_else(|| Failure::invalid_field("schedule.catch_up", "must be a policy"))?,
        job_type: wire.r#type,
        priority: priority(wire.priority).map_err(below_schedule)?,
        params,
        paused: wire.paused,
        no_overlap: wire.no_overlap,
        next_ms: 0,
        last_ms: None,
    };
    Ok((stored, cron))
}

fn cron_fault(bad: &BadCron) -> Failure {
    let field = if *bad == BadCron::Zone { "schedule.time_zone" } else { "schedule.cron" };
    Failure::invalid_field(field, bad.to_string())
}

fn below_schedule(mut failure: Failure) -> Failure {
    for fault in &mut failure.fields {
        fault.field = format!("schedule.{}", fault.field);
    }
    failure
}

fn id<T: std::str::FromStr<Err = streamgate_core::ids::BadId>>(field: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|bad: streamgate_core::ids::BadId| Failure::invalid_field(field, bad.to_string()))
}

/// A job's id.
///
/// # Errors
/// When it is none.
pub fn job_id(text: &str) -> Result<JobId, Failure> {
    id("job_id", text)
}

/// An endpoint's id.
///
/// # Errors
/// When it is none.
pub fn endpoint_id(text: &str) -> Result<WebhookId, Failure> {
    id("endpoint_id", text)
}

/// A delivery's id.
///
/// # Errors
/// When it is none.
pub fn delivery_id(text: &str) -> Result<DeliveryId, Failure> {
    id("delivery_id", text)
}

/// Only deliveries in this state; nought is all.
///
/// # Errors
/// A state that is none.
pub fn delivery_state(number: i32) -> Result<Option<DeliveryState>, Failure> {
    if number == 0 {
        return Ok(None);
    }
    let state = DeliveryState::of_number(number.into());
    state.map(Some).ok_or_else(|| Failure::invalid_field("state", "must be a state of a delivery"))
}

/// Which deliveries are sent again.
///
/// # Errors
/// A span that has no beginning, or ends before it.
pub fn replay(request: &pb::ReplayDeliveriesRequest) -> Result<Replay, Failure> {
    let since = request.since.as_ref().map(from_timestamp).ok_or_else(|| Failure::invalid_field("since", "is required"))?;
    let until = request.until.as_ref().map_or_else(now_ms, from_timestamp);
    if until <= since {
        return Err(Failure::invalid_field("until", "must come after since"));
    }
    Ok(Replay { since, until, delivered_too: request.delivered_too, page_token: request.page_token.clone() })
}

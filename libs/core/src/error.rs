//! Error kinds, and the two total tables that turn them into gRPC codes and HTTP statuses.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `ErrorInfo` of this project.
pub const ERROR_DOMAIN: &str = "streamgate";

/// Bounds of what an answer says of a failure. It travels in two headers, one of them in base64 and one with three bytes
/// for each that is not ASCII, and a gRPC client breaks a call off whose headers exceed 16 KiB.
const MAX_FIELDS: usize = 32;
const MAX_FIELDS_BYTES: usize = 4096;
const MAX_TEXT_BYTES: usize = 256;
const MAX_UNMET_BYTES: usize = 4096;
const MAX_MESSAGE_BYTES: usize = 512;
const MAX_REASON_BYTES: usize = 64;
/// The field that stands for those which are not listed.
const OTHER_FIELDS: &str = "others";

/// Key of `ErrorInfo.metadata` under which unmet requirements are listed, one a line.
const UNMET_KEY: &str = "unmet";

/// An error with its causes, on one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What kind of thing went wrong. Clients may rely on the code and on the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong; sending it again will not help.
    InvalidArgument,
    /// Who calls is not known.
    Unauthenticated,
    /// Who calls is known, and may not.
    PermissionDenied,
    /// The thing does not exist, or the caller may not know of it.
    NotFound,
    /// The thing is there already, and differs.
    AlreadyExists,
    /// The thing is not in a state for this.
    FailedPrecondition,
    /// Somebody else was faster; read again and retry.
    Aborted,
    /// Past the end.
    OutOfRange,
    /// A quota, a rate or a size is used up.
    ResourceExhausted,
    /// The body is larger than is taken.
    TooLarge,
    /// There is no room left to store it.
    StorageFull,
    /// Something this depends on is away; retry later.
    Unavailable,
    /// It took too long.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// Our fault. The caller learns nothing but a request id.
    Internal,
}

impl ErrorKind {
    /// The gRPC code of this kind.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::InvalidArgument | Self::TooLarge => Code::InvalidArgument,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::NotFound => Code::NotFound,
            Self::AlreadyExists => Code::AlreadyExists,
            Self::FailedPrecondition => Code::FailedPrecondition,
            Self::Aborted => Code::Aborted,
            Self::OutOfRange => Code::OutOfRange,
            Self::ResourceExhausted | Self::StorageFull => Code::ResourceExhausted,
            Self::Unavailable => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::Internal => Code::Internal,
        }
    }

    /// The HTTP status of this kind.
    #[must_use]
    pub const fn http_status(self) -> StatusCode {
        match self {
            Self::InvalidArgument => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists | Self::FailedPrecondition | Self::Aborted => StatusCode::CONFLICT,
            Self::OutOfRange => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            // Nginx's "client closed request": nobody reads it.
            Self::Cancelled => StatusCode::REQUEST_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The kind as one stable word; it is carried beside the code, which is coarser.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::FailedPrecondition => "failed_precondition",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out_of_range",
            Self::ResourceExhausted => "resource_exhausted",
            Self::TooLarge => "too_large",
            Self::StorageFull => "storage_full",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        [Self::TooLarge, Self::StorageFull].into_iter().find(|kind| kind.as_str() == word)
    }

    const fn of_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidArgument,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound | Code::Unimplemented => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::Aborted => Self::Aborted,
            Code::OutOfRange => Self::OutOfRange,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::Unavailable => Self::Unavailable,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::Cancelled => Self::Cancelled,
            Code::Ok | Code::Unknown | Code::DataLoss | Code::Internal => Self::Internal,
        }
    }
}

/// One field of a request that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, such as `gate.all.rules[0].erc721.contract`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl FieldViolation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// As many of the fields as an answer has room for; the last entry says how many are left out.
fn listed(fields: Vec<FieldViolation>) -> Vec<FieldViolation> {
    let count = fields.len();
    let most = if count > MAX_FIELDS { MAX_FIELDS - 1 } else { count };
    let mut room = MAX_FIELDS_BYTES;
    let mut listed = Vec::with_capacity(most);
    for FieldViolation { field, description } in fields.into_iter().take(most) {
        let next = FieldViolation { field: cut(field, MAX_TEXT_BYTES), description: cut(description, MAX_TEXT_BYTES) };
        let Some(rest) = room.checked_sub(next.field.len() + next.description.len()) else { break };
        room = rest;
        listed.push(next);
    }
    if listed.len() < count {
        listed.push(FieldViolation::new(OTHER_FIELDS, format!("{} more are wrong", count - listed.len())));
    }
    listed
}

/// The requirements, one a line, as far as an answer has room for them.
fn unmet_lines(unmet: &[String]) -> String {
    let mut lines = String::new();
    for (place, line) in unmet.iter().enumerate() {
        let separator = if place == 0 { "" } else { "\n" };
        if place > 0 && lines.len() + line.len() > MAX_UNMET_BYTES {
            lines.push_str(&format!("\nand {} more", unmet.len() - place));
            break;
        }
        lines.push_str(separator);
        lines.push_str(&cut(line.clone(), MAX_UNMET_BYTES));
    }
    lines
}

/// The beginning of a text that is longer than `most` bytes.
fn cut(mut text: String, most: usize) -> String {
    const MORE: &str = "...";
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most - MORE.len()));
        text.push_str(MORE);
    }
    text
}

/// An error as a caller may see it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Decides the gRPC code and the HTTP status.
    pub kind: ErrorKind,
    /// Stable word in snake case, such as `gate_not_met`.
    pub reason: Cow<'static, str>,
    /// What went wrong and what to do, for a person. Replaced for `Internal`.
    pub message: String,
    /// Fields that were refused.
    pub fields: Vec<FieldViolation>,
    /// Requirements of a gate that were not met.
    pub unmet: Vec<String>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure with a reason and a message.
    pub fn new(kind: ErrorKind, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), message: message.into(), fields: Vec::new(), unmet: Vec::new(), retry_after: None }
    }

    /// The request's fields are wrong: `invalid_argument` with the first one's words as the message.
    #[must_use]
    pub fn invalid(fields: Vec<FieldViolation>) -> Self {
        let message =
            fields.first().map_or_else(|| "the request is invalid".to_owned(), |f| format!("{}: {}", f.field, f.description));
        Self { fields, ..Self::new(ErrorKind::InvalidArgument, "invalid_argument", message) }
    }

    /// One field is wrong.
    pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid(vec![FieldViolation::new(field, description)])
    }

    /// The same failure with a hint when to try again.
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The same failure with the requirements that were not met.
    #[must_use]
    pub fn with_unmet(mut self, unmet: Vec<String>) -> Self {
        self.unmet = unmet;
        self
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut metadata = HashMap::from([("kind".to_owned(), failure.kind.as_str().to_owned())]);
        if !failure.unmet.is_empty() {
            metadata.insert(UNMET_KEY.to_owned(), unmet_lines(&failure.unmet));
        }
        let mut details =
            ErrorDetails::with_error_info(cut(failure.reason.into_owned(), MAX_REASON_BYTES), ERROR_DOMAIN, metadata);
        for field in listed(failure.fields) {
            details.add_bad_request_violation(field.field, field.description);
        }
        if let Some(wait) = failure.retry_after {
            details.set_retry_info(Some(wait));
        }
        let message = if failure.kind == ErrorKind::Internal { "internal error".to_owned() } else { failure.message };
        let message = cut(message, MAX_MESSAGE_BYTES);
        Self::with_error_details(failure.kind.code(), message, details)
    }
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let word = info.and_then(|info| info.metadata.get("kind")).and_then(|word| ErrorKind::of_word(word));
        let kind = word.unwrap_or_else(|| ErrorKind::of_code(status.code()));
        let reason = info.map_or(Cow::Borrowed(kind.as_str()), |info| Cow::Owned(info.reason.clone()));
        let unmet = info.and_then(|info| info.metadata.get(UNMET_KEY)).map(|lines| lines.lines().map(str::to_owned).collect());
        let fields = details
            .bad_request()
            .map(|bad| bad.field_violations.iter().map(|v| FieldViolation::new(&v.field, &v.description)).collect());
        let message = if kind == ErrorKind::Internal { "internal error".to_owned() } else { status.message().to_owned() };
        Self {
            kind,
            reason,
            message,
            fields: fields.unwrap_or_default(),
            unmet: unmet.unwrap_or_default(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire() {
        let sent = Failure {
            fields: vec![FieldViolation::new("gate.k", "is too large")],
            unmet: vec!["hold 1 of 0xabc".into(), "sign in".into()],
            ..Failure::new(ErrorKind::StorageFull, "storage_full", "no room left")
        }
        .retry_after(Duration::from_secs(7));
        assert_eq!(Failure::from(&Status::from(sent.clone())), sent);
    }

    /// As HTTP/2 counts headers: name, value and 32 bytes each.
    fn header_bytes(failure: Failure) -> usize {
        let response = Status::from(failure).into_http::<()>();
        response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    /// What hyper's client takes, less what else an answer carries: the date, the request's id.
    const HEADER_ROOM: usize = 16 * 1024 - 1024;

    #[test]
    fn an_answer_lists_what_fits_into_its_headers_and_counts_the_rest() {
        let bad =
            |place| FieldViolation::new(format!("gate.all.rules[0].wallets.accounts[{place}]"), "must be a CAIP-10 account");
        let failure = Failure::invalid((0..256).map(bad).collect());
        let read = Failure::from(&Status::from(failure.clone()));
        assert_eq!(read.fields.len(), MAX_FIELDS);
        assert_eq!(read.fields[..MAX_FIELDS - 1], failure.fields[..MAX_FIELDS - 1]);
        assert_eq!(read.fields[MAX_FIELDS - 1], FieldViolation::new(OTHER_FIELDS, "225 more are wrong"));
        assert!(header_bytes(failure) < HEADER_ROOM);
        let all = Failure::invalid((0..MAX_FIELDS).map(bad).collect());
        assert_eq!(Failure::from(&Status::from(all.clone())), all);
    }

    #[test]
    fn the_largest_failure_fits_into_headers() {
        let long = "\u{20ac}".repeat(10_000);
        for unmet in [vec![long.clone(); 300], vec!["\u{20ac}".repeat(100); 300]] {
            let failure = Failure {
                reason: long.clone().into(),
                fields: vec![FieldViolation::new(long.clone(), long.clone()); 300],
                ..Failure::new(ErrorKind::StorageFull, "", long.clone())
            }
            .with_unmet(unmet)
            .retry_after(Duration::from_secs(7));
            let bytes = header_bytes(failure.clone());
            assert!(bytes < HEADER_ROOM, "{bytes}");
            let read = Failure::from(&Status::from(failure));
            assert!(
                read.unmet.last().is_some_and(|line| line.starts_with("and ") && line.ends_with(" more")),
                "{:?}",
                read.unmet
            );
            assert!(read.message.ends_with("..."));
        }
    }

    #[test]
    fn an_internal_failure_tells_the_caller_nothing() {
        let status = Status::from(Failure::new(ErrorKind::Internal, "internal", "secret path /x"));
        assert_eq!(status.message(), "internal error");
        assert!(!String::from_utf8_lossy(status.details()).contains("secret"));
    }
}

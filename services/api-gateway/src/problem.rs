//! Errors as a caller sees them: `application/problem+json` (RFC 9457), or a gRPC status.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use streamgate_core::{ErrorKind, Failure};

use crate::error::Error;

/// Media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The shape of `streamgate.errors.v1.Problem`.
#[derive(Debug, Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    request_id: &'a str,
    errors: Vec<FieldError<'a>>,
    unmet: &'a [String],
}

#[derive(Debug, Serialize)]
struct FieldError<'a> {
    field: &'a str,
    description: &'a str,
}

/// Carries the error in the response's extensions: [`render`] writes it out once the outermost layer
/// knows the request id and the caller's protocol.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the error in `response`, if there is one, as a problem document.
#[must_use]
pub fn render(mut response: Response, request_id: &str) -> Response {
    let Some(error) = response.extensions_mut().remove::<Error>() else { return response };
    let status = error.status();
    let extra = extra_headers(&error);
    let failure = Failure::from(error);
    let wait = failure.retry_after.or_else(|| default_wait(failure.kind));
    let mut answer = Response::new(Body::from(document(&failure, status, request_id)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.extend(written(&mut response));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(extra);
    if let Some(wait) = wait {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"streamgate\""));
    }
    answer
}

/// Writes the error in `response`, if there is one, as the trailers-only answer of gRPC.
#[must_use]
pub fn render_grpc(mut response: Response) -> Response {
    let Some(error) = response.extensions_mut().remove::<Error>() else { return response };
    let mut answer = tonic::Status::from(Failure::from(error)).into_http();
    answer.headers_mut().extend(written(&mut response));
    answer
}

/// What layers have written on an error's way, but the length of the body that it did not have yet.
fn written(response: &mut Response) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().drain().filter_map(|(name, value)| name.map(|name| (name, value)))
}

fn document(failure: &Failure, status: StatusCode, request_id: &str) -> Vec<u8> {
    let problem = Problem {
        r#type: format!("urn:streamgate:error:{}", failure.reason),
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: &failure.message,
        reason: &failure.reason,
        request_id,
        errors: failure.fields.iter().map(|f| FieldError { field: &f.field, description: &f.description }).collect(),
        unmet: &failure.unmet,
    };
    serde_json::to_vec(&problem).unwrap_or_default()
}

fn extra_headers(error: &Error) -> Option<(HeaderName, HeaderValue)> {
    match error {
        Error::WrongMethod { allowed, .. } => HeaderValue::from_str(allowed).ok().map(|value| (header::ALLOW, value)),
        Error::OutsideAsset { size_bytes } => {
            HeaderValue::from_str(&format!("bytes */{size_bytes}")).ok().map(|value| (header::CONTENT_RANGE, value))
        }
        _ => None,
    }
}

/// A caller that is told "later" is always told when.
const fn default_wait(kind: ErrorKind) -> Option<Duration> {
    match kind {
        ErrorKind::Unavailable | ErrorKind::ResourceExhausted => Some(Duration::from_secs(1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use streamgate_core::FieldViolation;

    use super::*;

    async fn shown(error: Error) -> (http::response::Parts, serde_json::Value) {
        let (parts, body) = render(error.into_response(), "req-1").into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_reason_its_fields_and_what_is_unmet() {
        let failure = Failure {
            fields: vec![FieldViolation::new("gate.k", "is too large")],
            ..Failure::new(ErrorKind::PermissionDenied, "gate_not_met", "the gate is not met")
        }
        .with_unmet(vec!["hold a token".into()]);
        let (parts, body) = shown(Error::Refused(failure)).await;
        assert_eq!(parts.status, StatusCode::FORBIDDEN);
        assert_eq!(parts.headers[header::CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(body["type"], "urn:streamgate:error:gate_not_met");
        assert_eq!(body["title"], "Forbidden");
        assert_eq!(body["status"], 403);
        assert_eq!(body["request_id"], "req-1");
        assert_eq!(body["errors"][0]["field"], "gate.k");
        assert_eq!(body["unmet"][0], "hold a token");
    }

    #[tokio::test]
    async fn a_service_that_is_away_says_when_to_come_back() {
        let failure = Failure::new(ErrorKind::Unavailable, "ownership_unknown", "later").retry_after(Duration::from_secs(7));
        let (parts, _) = shown(Error::Refused(failure)).await;
        assert_eq!(parts.headers[header::RETRY_AFTER], "7");
        let (parts, _) = shown(Error::Refused(Failure::new(ErrorKind::Unavailable, "unavailable", "later"))).await;
        assert_eq!(parts.headers[header::RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn a_breach_of_contract_tells_the_caller_nothing() {
        let (parts, body) = shown(Error::Contract("secret".into())).await;
        assert_eq!(parts.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn a_caller_without_identity_is_told_how_to_show_one() {
        let (parts, _) = shown(Error::Refused(Failure::new(ErrorKind::Unauthenticated, "credentials_missing", "sign in"))).await;
        assert_eq!(parts.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"streamgate\"");
    }
}

//! What is made of a request before anything else looks at it.

use axum::extract::Request;
use http::{Method, header};
use streamgate_core::{ErrorKind, Failure};

use crate::{
    edge::patience::Patient,
    error::{Error, Result},
    proxy::is_grpc,
};

/// Lets a request in that means one thing only.
///
/// # Errors
/// For two credentials: of two readers each could believe another one.
pub(super) fn admit(mut request: Request) -> Result<Request> {
    if request.headers().get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
        let text = "send one authorization header, not several";
        return Err(Error::Refused(Failure::new(ErrorKind::Unauthenticated, "token_invalid", text)));
    }
    // Ranges are defined for GET alone (RFC 9110, section 14.2).
    if *request.method() != Method::GET {
        request.headers_mut().remove(header::RANGE);
        request.headers_mut().remove(header::IF_RANGE);
    }
    // A gRPC call has a deadline, and its streams go to the upload service, which has a clock of its own.
    Ok(if is_grpc(request.headers()) { request } else { request.map(Patient::with) })
}

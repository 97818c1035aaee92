//! Pages of any origin may call the edge with a bearer; cookies are never asked for across origins.

use std::time::Duration;

use http::{HeaderName, Method, header};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// Headers of answers that scripts of other origins may read.
const EXPOSED: [&str; 18] = [
    "content-length",
    "content-range",
    "accept-ranges",
    "etag",
    "retry-after",
    "allow",
    "location",
    "x-request-id",
    "upload-offset",
    "upload-length",
    "www-authenticate",
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "date",
    "ratelimit",
    "ratelimit-policy",
    "preference-applied",
];

/// The CORS layer.
pub fn layer() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        // A star would leave out `authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(Duration::from_secs(3600))
        .vary([header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_REQUEST_HEADERS])
}

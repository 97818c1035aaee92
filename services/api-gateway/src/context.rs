//! What of a caller's request goes along to the services behind.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tonic::metadata::MetadataMap;

/// Name of the header that carries the request id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C trace context.
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
/// Headers that begin so belong to the mesh: nobody outside may send them.
const MESH_PREFIX: &str = "x-streamgate-";

/// The headers of a caller that a service behind may see.
#[derive(Debug, Clone, Default)]
pub struct CallContext {
    headers: HeaderMap,
}

impl CallContext {
    /// Picks them from a request's headers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut kept = HeaderMap::new();
        for name in [header::AUTHORIZATION, REQUEST_ID, TRACE_PARENT, TRACE_STATE] {
            if let Some(value) = headers.get(&name) {
                kept.insert(name, value.clone());
            }
        }
        Self { headers: kept }
    }

    /// The same context without the caller's bearer.
    #[must_use]
    pub fn without_bearer(mut self) -> Self {
        self.headers.remove(header::AUTHORIZATION);
        self
    }

    /// The request id.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The caller's bearer header.
    #[must_use]
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.headers.get(header::AUTHORIZATION)
    }

    /// `message` as a request that carries this context.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let metadata = MetadataMap::from_headers(self.headers.clone());
        tonic::Request::from_parts(metadata, tonic::Extensions::default(), message)
    }
}

/// Takes away what only services of the mesh may say of themselves.
pub fn strip_mesh_headers(headers: &mut HeaderMap) {
    let foreign: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(MESH_PREFIX)).cloned().collect();
    for name in foreign {
        headers.remove(name);
    }
}

/// The value of a `Bearer` authorization header.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, value) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| value.trim()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_callers_own_words_go_along() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer a"));
        headers.insert("x-streamgate-service", HeaderValue::from_static("forged"));
        headers.insert("cookie", HeaderValue::from_static("secret"));
        let request = CallContext::of(&headers).request(());
        assert!(request.metadata().contains_key("authorization"));
        assert!(!request.metadata().contains_key("x-streamgate-service"));
        assert!(!request.metadata().contains_key("cookie"));
    }

    #[test]
    fn headers_of_the_mesh_are_taken_away() {
        let mut headers = HeaderMap::new();
        headers.insert("x-streamgate-service", HeaderValue::from_static("forged"));
        headers.append("x-streamgate-on-behalf", HeaderValue::from_static("forged"));
        headers.append("x-streamgate-on-behalf", HeaderValue::from_static("twice"));
        headers.insert("x-request-id", HeaderValue::from_static("r"));
        strip_mesh_headers(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn a_bearer_is_read_in_any_case() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("bearer  sgk_1 "));
        assert_eq!(bearer(&headers), Some("sgk_1"));
        headers.insert("authorization", HeaderValue::from_static("Basic abc"));
        assert_eq!(bearer(&headers), None);
    }
}

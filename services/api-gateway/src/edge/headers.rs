//! Headers that keep browsers out of trouble.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What a page may load: its own files, wallet icons, and media from its own origin.
pub const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Anything else is no page and loads nothing.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Adds them to an answer; a page brings its own policy.
pub fn add(headers: &mut HeaderMap) {
    let fixed: [(HeaderName, &'static str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, DATA_POLICY),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

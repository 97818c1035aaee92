//! The studio at `/` and the player at `/watch/{playback_id}`, built into the binary.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use axum::{
    Router,
    body::Body,
    extract::{Path, rejection::PathRejection},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{edge::headers::PAGE_POLICY, error::Error, rest::tags};

const STUDIO: &str = include_str!("../web/index.html");
const WATCH: &str = include_str!("../web/watch.html");

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type and content of each file below `/assets/`.
const ASSETS: &[(&str, &str, &[u8])] = &[
    ("style.css", "text/css; charset=utf-8", include_bytes!("../web/style.css")),
    ("api.js", SCRIPT, include_bytes!("../web/api.js")),
    ("wallet.js", SCRIPT, include_bytes!("../web/wallet.js")),
    ("upload.js", SCRIPT, include_bytes!("../web/upload.js")),
    ("titles.js", SCRIPT, include_bytes!("../web/titles.js")),
    ("gate.js", SCRIPT, include_bytes!("../web/gate.js")),
    ("studio.js", SCRIPT, include_bytes!("../web/studio.js")),
    ("watch.js", SCRIPT, include_bytes!("../web/watch.js")),
    ("player.js", SCRIPT, include_bytes!("../web/player.js")),
    ("hls.min.js", SCRIPT, include_bytes!("../web/vendor/hls.min.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("../web/icon.svg")),
];

/// Routes of the pages.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async || page(STUDIO)))
        .route("/watch/{playback_id}", get(async || page(WATCH)))
        .route("/assets/{name}", get(asset))
        .route("/favicon.ico", get(async |headers: HeaderMap| asset(Ok(Path("icon.svg".to_owned())), headers).await))
}

fn page(html: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)),
    ];
    (headers, html).into_response()
}

async fn asset(path: Result<Path<String>, PathRejection>, asked: HeaderMap) -> Response {
    let Ok(Path(name)) = path else { return Error::UnknownPath.into_response() };
    let Some((_, kind, bytes)) = ASSETS.iter().find(|(known, _, _)| *known == name) else {
        return Error::UnknownPath.into_response();
    };
    let tag = tag(bytes);
    let mut response = Response::new(Body::empty());
    if tags::of(&asked, header::IF_NONE_MATCH).iter().any(|known| known.means(&tag)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = Body::from(*bytes);
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// Names what a file holds.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_name_only_files_that_are_there_and_hold_no_inline_script() {
        for html in [STUDIO, WATCH] {
            for name in html.split("/assets/").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(ASSETS.iter().any(|(known, _, _)| *known == name), "{name}");
            }
            assert!(!html.contains("<script>") && !html.contains(" style=") && !html.contains(" onclick="));
            assert!(!html.contains("http://") && !html.contains("https://"), "pages load nothing from outside");
        }
    }
}

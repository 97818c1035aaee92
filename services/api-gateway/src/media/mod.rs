//! Playlists, manifests, segments and side assets: each read goes to the streaming service, which decides.

pub mod credential;
pub mod path;
pub mod range;
pub mod target;

use std::time::Duration;

use axum::{body::Body, extract::Request, response::Response};
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use streamgate_core::{ErrorKind, ServiceName, time::now_ms};
use streamgate_proto::streamgate::streaming::v1::{
    AssetHeader, Choice, ReadAssetRequest, ReadAssetResponse, read_asset_response::Part,
    streaming_service_client::StreamingServiceClient,
};
use tonic::Streaming;

use crate::{
    backends::Backends,
    context::CallContext,
    error::{Error, Result},
    media::{credential::Credential, range::IfRange, target::Target},
    metrics::EdgeMetrics,
};

/// Longest time that a viewer's own cache may give out a segment for without a question: a session lasts no longer.
const MOST_KEEP_SECONDS: i64 = 12 * 3600;
/// The same where no token tells how long the session lasts: as long as an access token.
const KEEP_SECONDS: i64 = 600;
/// What a cache must compare before it gives an answer again: who is signed in, and under which session.
const VARY: &str = "authorization, cookie";
/// Playlists grow and carry tokens, and posters are replaced: they are asked for again each time.
const ASK_AGAIN: &str = "private, no-cache";

/// Answers requests for media.
#[derive(Debug, Clone)]
pub struct Media {
    backends: Backends,
    metrics: EdgeMetrics,
    timeout: Duration,
    secure_cookies: bool,
}

impl Media {
    /// Reads from `backends`; `public_url` decides whether cookies need TLS.
    #[must_use]
    pub fn new(backends: Backends, metrics: EdgeMetrics, timeout: Duration, public_url: &str) -> Self {
        Self { backends, metrics, timeout, secure_cookies: public_url.starts_with("https://") }
    }

    /// Answers one request below `/play/` or `/api/v1/stream/`.
    ///
    /// # Errors
    /// When the path is none, or the streaming service refuses.
    pub async fn answer(&self, request: Request) -> Result<Response> {
        let (parts, _) = request.into_parts();
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(Error::WrongMethod { method: parts.method, allowed: "GET, HEAD, OPTIONS".into() });
        }
        let target = Target::of(parts.uri.path(), parts.uri.query())?;
        let credential = Credential::of(&parts.headers, parts.uri.query(), target.takes_identity())?;
        let choice = target::choice(parts.uri.query())?;
        let context = CallContext::of(&parts.headers);
        let call = Call { media: self, target: &target, credential: &credential, choice, context };
        let range = self.range(&call, &parts.headers).await?;
        let wanted = ReadAssetRequest {
            range,
            if_none_match: range::entity_tags(&parts.headers),
            head_only: parts.method == Method::HEAD,
            ..call.request()
        };
        let (header, chunks) = match call.open(wanted).await {
            Err(Error::Refused(failure)) if failure.kind == ErrorKind::OutOfRange => return Err(call.outside().await),
            other => other?,
        };
        let body = if parts.method == Method::HEAD || header.not_modified { Body::empty() } else { self.body(chunks) };
        self.response(&target, &credential, &header, body)
    }

    /// The span that is wanted, unless `If-Range` names another version.
    async fn range(&self, call: &Call<'_>, headers: &HeaderMap) -> Result<Option<range::ByteRange>> {
        let Some(range) = range::wanted(headers) else { return Ok(None) };
        match range::if_range(headers) {
            IfRange::Always => Ok(Some(range)),
            IfRange::Never => Ok(None),
            IfRange::Tag(tag) => {
                let (header, _) = call.open(ReadAssetRequest { head_only: true, ..call.request() }).await?;
                Ok((header.etag == tag).then_some(range))
            }
        }
    }

    fn response(&self, target: &Target, credential: &Credential, asset: &AssetHeader, body: Body) -> Result<Response> {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        let bad = |_| Error::Contract("a header of the streaming service is no header".into());
        headers.insert(header::ETAG, HeaderValue::from_str(&asset.etag).map_err(bad)?);
        let caching = if asset.immutable { keep(credential) } else { ASK_AGAIN.to_owned() };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_str(&caching).map_err(bad)?);
        headers.append(header::VARY, HeaderValue::from_static(VARY));
        // A title that was named by its own id has its playlist carry the token alone.
        if !target.playback_id.is_empty() {
            for cookie in credential::cookies(&target.playback_id, asset, self.secure_cookies) {
                headers.append(header::SET_COOKIE, HeaderValue::from_str(&cookie).map_err(bad)?);
            }
        }
        if asset.not_modified {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&asset.content_type).map_err(bad)?);
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(asset.length_bytes));
        if asset.partial {
            let last = (asset.offset_bytes + asset.length_bytes).saturating_sub(1);
            let span = format!("bytes {}-{last}/{}", asset.offset_bytes, asset.size_bytes);
            headers.insert(header::CONTENT_RANGE, HeaderValue::from_str(&span).map_err(bad)?);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(response)
    }

    /// The chunks as a body: one is read only when the viewer has taken the one before.
    fn body(&self, chunks: Streaming<ReadAssetResponse>) -> Body {
        let (metrics, timeout) = (self.metrics.clone(), self.timeout);
        Body::from_stream(stream::try_unfold(chunks, move |mut chunks| {
            let metrics = metrics.clone();
            async move {
                let next = tokio::time::timeout(timeout, chunks.message()).await.map_err(|_| std::io::ErrorKind::TimedOut)?;
                match next.map_err(std::io::Error::other)?.and_then(|message| message.part) {
                    Some(Part::Chunk(bytes)) => {
                        metrics.media_bytes.inc_by(bytes.len() as u64);
                        Ok(Some((bytes, chunks)))
                    }
                    Some(Part::Header(_)) => Err(std::io::Error::other("a second header")),
                    None => Ok::<_, std::io::Error>(None),
                }
            }
        }))
    }
}

/// Segments never change, so a viewer's own cache may keep them: for as long as the session that they were read under, so that
/// it ends with that. No shared cache may: they are gated.
fn keep(credential: &Credential) -> String {
    let left = credential.ends_ms().map_or(KEEP_SECONDS, |end| end.saturating_sub(now_ms()) / 1000);
    format!("private, max-age={}, immutable", left.clamp(0, MOST_KEEP_SECONDS))
}

/// The reads of one request.
struct Call<'a> {
    media: &'a Media,
    target: &'a Target,
    credential: &'a Credential,
    choice: Option<Choice>,
    context: CallContext,
}

impl Call<'_> {
    fn request(&self) -> ReadAssetRequest {
        ReadAssetRequest {
            playback_id: self.target.playback_id.clone(),
            content_id: self.target.content_id.clone(),
            path: self.target.asset.clone(),
            choice: self.choice.clone(),
            token: self.credential.token.clone(),
            token_in_url: self.credential.in_url,
            ..ReadAssetRequest::default()
        }
    }

    /// Opens a read and takes its header.
    async fn open(&self, request: ReadAssetRequest) -> Result<(AssetHeader, Streaming<ReadAssetResponse>)> {
        let context = if self.credential.pass_bearer { self.context.clone() } else { self.context.clone().without_bearer() };
        let mut client = StreamingServiceClient::new(self.media.backends.channel(ServiceName::Streaming));
        let opening = async {
            let mut chunks = client.read_asset(context.request(request)).await?.into_inner();
            match chunks.message().await?.and_then(|message| message.part) {
                Some(Part::Header(header)) => Ok((header, chunks)),
                _ => Err(Error::Contract("an asset came without a header".into())),
            }
        };
        tokio::time::timeout(self.media.timeout, opening).await.map_err(|_| Error::TooSlow)?
    }

    /// The error for a range that lies outside, with the size that RFC 9110 wants in it.
    async fn outside(&self) -> Error {
        match self.open(ReadAssetRequest { head_only: true, ..self.request() }).await {
            Ok((header, _)) => Error::OutsideAsset { size_bytes: header.size_bytes },
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    #[test]
    fn a_segment_is_kept_until_its_session_ends_and_no_longer() {
        let kept = |token: String| {
            let text = keep(&Credential { token, ..Credential::default() });
            let seconds = text.strip_prefix("private, max-age=").and_then(|rest| rest.strip_suffix(", immutable"));
            seconds.and_then(|seconds| seconds.parse::<i64>().ok())
        };
        let in_seconds = |left: i64| {
            let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{}}}"#, now_ms() / 1000 + left));
            kept(format!("e30.{claims}.c2ln"))
        };
        assert!(in_seconds(3600).is_some_and(|kept| (3000..=3600).contains(&kept)));
        assert_eq!(in_seconds(-5), Some(0));
        assert_eq!(in_seconds(365 * 86_400), Some(MOST_KEEP_SECONDS));
        assert_eq!(kept(String::new()), Some(KEEP_SECONDS), "read under an identity");
    }
}

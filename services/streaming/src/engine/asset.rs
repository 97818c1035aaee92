//! Playlists, manifests, segments and side assets of a title.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use streamgate_core::{
    Caller,
    time::{UnixMillis, now_ms},
};
use streamgate_media::{
    dash, hls,
    presentation::{Links, PublicPath, find_file, find_rendition},
};
use streamgate_store::{BlobKey, ByteStream};

use super::{Engine, Opened, presentations::Seen};
use crate::{Error, Result};

/// Bytes of one message to the caller.
const MOST_CHUNK_BYTES: usize = 256 * 1024;

/// What a caller wants to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssetRequest {
    /// The title.
    pub playback_id: String,
    /// Path below it.
    pub path: String,
    /// Playback token; empty when there is none.
    pub token: String,
    /// The token came in the URL: every URI of a playlist carries it.
    pub token_in_url: bool,
    /// Bytes wanted.
    pub span: Option<Span>,
    /// Entity tags that the caller has.
    pub if_none_match: Vec<String>,
    /// No body, please.
    pub head_only: bool,
}

/// Bytes as HTTP asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// From a byte to another, inclusive, or to the end.
    From(u64, Option<u64>),
    /// The last so many bytes.
    Last(u64),
}

/// What comes before the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Media type.
    pub content_type: &'static str,
    /// Strong entity tag, with quotes.
    pub etag: String,
    /// Size of the whole asset.
    pub size_bytes: u64,
    /// What follows of it.
    pub range: Range<u64>,
    /// Only a part was asked for.
    pub partial: bool,
    /// The caller has it.
    pub not_modified: bool,
    /// It never changes.
    pub immutable: bool,
    /// Token of a session that was opened for this, and when it ends.
    pub new_token: Option<(String, UnixMillis)>,
}

/// An asset: a header, and its bytes in pieces of at most 256 KiB.
pub struct Asset {
    /// What comes first.
    pub header: Header,
    /// The bytes; none when the header says all.
    pub body: ByteStream,
}

impl std::fmt::Debug for Asset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asset").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Where bytes come from.
enum Source {
    Text(Bytes),
    Blob(BlobKey),
}

/// An asset before the caller's conditions are looked at.
struct Whole {
    content_type: &'static str,
    etag: String,
    size_bytes: u64,
    immutable: bool,
    source: Source,
}

impl Engine {
    /// Reads an asset for the holder of a playback token. Without one, an entry opens a session for the caller.
    ///
    /// # Errors
    /// Why it is not given.
    pub async fn read(&self, caller: &Caller, request: &AssetRequest) -> Result<Asset> {
        let path = PublicPath::parse(&request.path);
        let opened = match &path {
            Some(path) if request.token.is_empty() && path.is_entry() => Some(self.open(caller, &request.playback_id).await?),
            _ if request.token.is_empty() => return Err(Error::TokenMissing),
            _ => None,
        };
        let token = opened.as_ref().map_or(request.token.as_str(), |opened| &opened.token);
        let live = self.entitled(token, &request.playback_id).await?;
        // Only now, so that nobody learns which names exist without a session.
        let path = path.ok_or(Error::UnknownAsset)?;
        let content_id = &live.opened().content_id;
        let seen = self.presentations.get(content_id).await?;
        let query = (request.token_in_url || opened.is_some()).then(|| format!("token={token}"));
        let whole = match self.playlist(&seen, &path, &request.playback_id, query.as_deref())? {
            Some(playlist) => playlist,
            None => stored(&seen, &path, content_id)?,
        };
        self.answer(whole, request, opened).await
    }

    /// A playlist or manifest, if the path names one.
    fn playlist(&self, seen: &Seen, path: &PublicPath<'_>, playback_id: &str, query: Option<&str>) -> Result<Option<Whole>> {
        let presentation = &seen.presentation;
        // The entries are served under two paths, so a relative name would not do for both.
        let base = format!("{}/play/{playback_id}/", path_of(&self.public_url));
        let from_entry = Links { base: &base, query };
        let (text, content_type) = match path {
            PublicPath::Multivariant => (hls::multivariant(presentation, &from_entry), hls::CONTENT_TYPE),
            PublicPath::Manifest => {
                let growing =
                    dash::Growing { available_from_ms: seen.available_from_ms, delay_ms: seen.first_length_ms, now_ms: now_ms() };
                (dash::manifest(presentation, &from_entry, growing), dash::CONTENT_TYPE)
            }
            PublicPath::Playlist(name) => {
                let rendition = find_rendition(presentation, name).ok_or(Error::UnknownAsset)?;
                (hls::media_playlist(presentation, rendition, &Links { base: "", query }), hls::CONTENT_TYPE)
            }
            _ => return Ok(None),
        };
        let text = Bytes::from(text.ok_or(Error::NotReady)?);
        let etag = format!("\"{}\"", &hex::encode(Sha256::digest(&text))[..32]);
        Ok(Some(Whole { content_type, etag, size_bytes: text.len() as u64, immutable: false, source: Source::Text(text) }))
    }

    async fn answer(&self, whole: Whole, request: &AssetRequest, opened: Option<Opened>) -> Result<Asset> {
        let mut header = Header {
            content_type: whole.content_type,
            size_bytes: whole.size_bytes,
            range: 0..whole.size_bytes,
            partial: false,
            not_modified: is_known(&whole.etag, &request.if_none_match),
            immutable: whole.immutable,
            new_token: opened.map(|opened| (opened.token, opened.expires_ms)),
            etag: whole.etag,
        };
        if header.not_modified {
            header.range = 0..0;
            return Ok(Asset { header, body: stream::empty().boxed() });
        }
        if let Some(range) = request.span.and_then(|span| satisfy(span, whole.size_bytes).transpose()).transpose()? {
            header.range = range;
            header.partial = true;
        }
        if request.head_only {
            return Ok(Asset { header, body: stream::empty().boxed() });
        }
        let body = match whole.source {
            Source::Text(text) => streamgate_store::bytes(slice(&text, &header.range)),
            Source::Blob(key) => {
                let range = header.partial.then(|| header.range.clone());
                self.deps.blobs.read(&key, range).await.map_err(blob_error)?
            }
        };
        self.deps.metrics.bytes_sent(header.range.end - header.range.start);
        Ok(Asset { header, body: in_pieces(body) })
    }
}

fn stored(seen: &Seen, path: &PublicPath<'_>, content_id: &str) -> Result<Whole> {
    let file = find_file(&seen.presentation, path).ok_or(Error::UnknownAsset)?;
    let key = BlobKey::new(format!("media/{content_id}/{}", file.path)).map_err(Error::store("name a stored segment"))?;
    Ok(Whole {
        content_type: file.content_type,
        etag: format!("\"{}-{}-{}\"", seen.presentation.job_id, file.path, file.size_bytes),
        size_bytes: file.size_bytes,
        immutable: true,
        source: Source::Blob(key),
    })
}

/// A listed file that is gone was purged with its title.
fn blob_error(error: streamgate_store::Error) -> Error {
    match error {
        streamgate_store::Error::NotFound(_) => Error::UnknownAsset,
        source => Error::Store { doing: "read a stored segment", source },
    }
}

fn is_known(etag: &str, known: &[String]) -> bool {
    known.iter().any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The bytes that a span means. Absent for one that HTTP says to ignore.
fn satisfy(span: Span, size_bytes: u64) -> Result<Option<Range<u64>>> {
    match span {
        Span::From(first, Some(last)) if last < first => Ok(None),
        Span::From(first, _) if first >= size_bytes => Err(Error::BadRange { size_bytes }),
        Span::From(first, last) => Ok(Some(first..last.map_or(size_bytes, |last| last.saturating_add(1).min(size_bytes)))),
        Span::Last(0) => Err(Error::BadRange { size_bytes }),
        Span::Last(_) if size_bytes == 0 => Err(Error::BadRange { size_bytes }),
        Span::Last(count) => Ok(Some(size_bytes.saturating_sub(count)..size_bytes)),
    }
}

fn slice(text: &Bytes, range: &Range<u64>) -> Bytes {
    let bound = |at: u64| usize::try_from(at).unwrap_or(text.len()).min(text.len());
    text.slice(bound(range.start)..bound(range.end))
}

/// Cuts what the store reads at once to the size of a message, without copying.
fn in_pieces(body: ByteStream) -> ByteStream {
    body.flat_map(|chunk| {
        let pieces = match chunk {
            Ok(mut rest) => {
                let mut pieces = Vec::with_capacity(rest.len() / MOST_CHUNK_BYTES + 1);
                while rest.len() > MOST_CHUNK_BYTES {
                    pieces.push(Ok(rest.split_to(MOST_CHUNK_BYTES)));
                }
                pieces.push(Ok(rest));
                pieces
            }
            Err(error) => vec![Err(error)],
        };
        stream::iter(pieces)
    })
    .boxed()
}

/// The path of a URL, without a slash at its end: the platform may live below a prefix.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |at| &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_means_the_bytes_that_http_says() {
        let table = [
            (Span::From(0, Some(9)), Some(0..10)),
            (Span::From(90, None), Some(90..100)),
            (Span::From(90, Some(u64::MAX)), Some(90..100)),
            (Span::From(9, Some(3)), None),
            (Span::Last(10), Some(90..100)),
            (Span::Last(1000), Some(0..100)),
        ];
        for (span, expected) in table {
            assert_eq!(satisfy(span, 100).unwrap(), expected, "{span:?}");
        }
        for refused in [Span::From(100, None), Span::Last(0)] {
            assert!(matches!(satisfy(refused, 100), Err(Error::BadRange { size_bytes: 100 })), "{refused:?}");
        }
    }

    #[test]
    fn the_path_of_the_public_url_is_kept() {
        assert_eq!(path_of("http://localhost:9090"), "");
        assert_eq!(path_of("https://a.example/video"), "/video");
    }
}

//! Playlists, manifests, segments and side assets of a title.

use std::{borrow::Cow, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use streamgate_core::{
    Caller,
    time::{UnixMillis, now_ms},
};
use streamgate_media::{
    choice::Choice,
    dash, hls,
    presentation::{Links, PublicName, PublicPath, find_file, find_rendition},
};
use streamgate_proto::streamgate::media::v1::Presentation;
use streamgate_store::{BlobKey, ByteStream};

use super::{Engine, presentations::Seen, session::Live};
use crate::{Error, Result};

/// Bytes of one message to the caller.
const MOST_CHUNK_BYTES: usize = 256 * 1024;
/// Who has chosen another poster sees it after so long.
const POSTER_AGE: Duration = Duration::from_millis(500);

/// What a caller wants to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssetRequest {
    /// The title.
    pub playback_id: String,
    /// The title by its own id, when there is no playback id.
    pub content_id: String,
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
    /// What an entry shall offer.
    pub choice: Choice,
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
    is_media: bool,
    source: Source,
}

/// What lets somebody read.
struct Pass {
    live: Arc<Live>,
    /// Token that every URI of a playlist carries.
    carried: Option<String>,
    /// Token that was issued for this read, and when it ends.
    new_token: Option<(String, UnixMillis)>,
}

impl Engine {
    /// Reads an asset for the holder of a playback token. Without one, an account reads under its session, which is opened
    /// if need be, and anybody may try to open one at an entry.
    ///
    /// # Errors
    /// Why it is not given.
    pub async fn read(&self, caller: &Caller, request: &AssetRequest) -> Result<Asset> {
        let path = PublicPath::parse(&request.path);
        let playback_id = self.playback_id(caller, &request.playback_id, &request.content_id, &request.token).await?;
        let pass = self.pass(caller, request, &playback_id, path.is_some_and(|path| path.is_entry())).await?;
        // Only now, so that nobody learns which names exist without a session.
        let path = path.ok_or(Error::UnknownAsset)?;
        let content_id = &pass.live.opened().content_id;
        if path.name == PublicName::Poster {
            return self.poster(path, content_id, request, &pass).await;
        }
        let seen = self.presentations.get(content_id, path.version).await?;
        let token = pass.carried.as_ref().map(|token| format!("token={token}"));
        let whole = match self.playlist(&seen, path, &playback_id, token.as_deref(), &request.choice)? {
            Some(playlist) => playlist,
            None => stored(&seen, path, content_id)?,
        };
        self.answer(whole, request, &pass).await
    }

    /// The poster. Of all stored files it alone may be replaced, even in a whole title.
    async fn poster(&self, path: PublicPath<'_>, content_id: &str, request: &AssetRequest, pass: &Pass) -> Result<Asset> {
        let seen = self.presentations.get_within(POSTER_AGE, content_id, path.version).await?;
        match self.answer(stored(&seen, path, content_id)?, request, pass).await {
            // Another has taken its place a moment ago.
            Err(Error::UnknownAsset) => {
                let seen = self.presentations.get_within(Duration::ZERO, content_id, path.version).await?;
                self.answer(stored(&seen, path, content_id)?, request, pass).await
            }
            answer => answer,
        }
    }

    /// The playback id that is meant: the one that is named, or one of the title that is named.
    ///
    /// # Errors
    /// `UnknownTitle`, or `TokenForeign` for a token of another title.
    pub(super) async fn playback_id(&self, caller: &Caller, named: &str, content_id: &str, token: &str) -> Result<String> {
        if !named.is_empty() || content_id.is_empty() {
            return Ok(named.to_owned());
        }
        if !token.is_empty() {
            let claims = self.deps.tokens.verify(token).await.map_err(super::check::token_error)?;
            return if claims.content_id == content_id { Ok(claims.playback_id) } else { Err(Error::TokenForeign) };
        }
        if caller.account().is_none() {
            return Err(Error::SignInFirst { unmet: Vec::new() });
        }
        let found = self.deps.titles.playback_id(caller, content_id).await.map_err(Error::neighbour("look up a title"))?;
        found.ok_or(Error::UnknownTitle)
    }

    async fn pass(&self, caller: &Caller, request: &AssetRequest, playback_id: &str, is_entry: bool) -> Result<Pass> {
        if !request.token.is_empty() {
            let live = self.entitled(&request.token, playback_id).await?;
            let carried = request.token_in_url.then(|| request.token.clone());
            return Ok(Pass { live, carried, new_token: None });
        }
        if !is_entry {
            if caller.account().is_none() {
                return Err(Error::TokenMissing);
            }
            return Ok(Pass { live: self.enter(caller, playback_id, 0).await?, carried: None, new_token: None });
        }
        // A title that begins now should not be cut off by the end of its session.
        let half = i64::from(self.config.session_seconds) * 500;
        let live = self.enter(caller, playback_id, half).await?;
        let token = self.token_of(&live).await?;
        let new_token = Some((token.clone(), live.opened().expires_ms));
        Ok(Pass { live, carried: Some(token), new_token })
    }

    /// A playlist or manifest, if the path names one.
    fn playlist(
        &self,
        seen: &Seen,
        path: PublicPath<'_>,
        playback_id: &str,
        token: Option<&str>,
        choice: &Choice,
    ) -> Result<Option<Whole>> {
        let presentation = &seen.presentation;
        if !matches!(path.name, PublicName::Multivariant | PublicName::Manifest | PublicName::Playlist(_)) {
            return Ok(None);
        }
        if presentation.stopped {
            return Err(Error::Incomplete);
        }
        // The entries are served under two paths, so a relative name would not do for both. The version keeps a player with
        // what it has begun, and lets it keep segments for ever.
        let base = format!("{}/play/{playback_id}/{}/", path_of(&self.public_url), presentation.version);
        let from_entry = Links { base: &base, query: token };
        let (text, content_type) = match path.name {
            PublicName::Playlist(name) => {
                let rendition = find_rendition(presentation, name).ok_or(Error::UnknownAsset)?;
                (hls::media_playlist(presentation, rendition, &Links { base: "", query: token }), hls::CONTENT_TYPE)
            }
            PublicName::Manifest => (manifest(seen, &offered(presentation, choice), &from_entry, choice), dash::CONTENT_TYPE),
            _ => (hls::multivariant(&offered(presentation, choice), &from_entry), hls::CONTENT_TYPE),
        };
        let text = Bytes::from(text.ok_or(Error::NotReady)?);
        let etag = format!("\"{}\"", &hex::encode(Sha256::digest(&text))[..32]);
        let size_bytes = text.len() as u64;
        Ok(Some(Whole { content_type, etag, size_bytes, immutable: false, is_media: false, source: Source::Text(text) }))
    }

    async fn answer(&self, whole: Whole, request: &AssetRequest, pass: &Pass) -> Result<Asset> {
        let mut header = Header {
            content_type: whole.content_type,
            size_bytes: whole.size_bytes,
            range: 0..whole.size_bytes,
            partial: false,
            not_modified: is_known(&whole.etag, &request.if_none_match),
            immutable: whole.immutable,
            new_token: pass.new_token.clone(),
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
        let bytes = header.range.end - header.range.start;
        self.deps.metrics.bytes_sent(bytes);
        if whole.is_media {
            pass.live.add_sent(bytes);
            self.note_playing(&pass.live).await;
        }
        Ok(Asset { header, body: in_pieces(body) })
    }
}

/// The renditions that are wanted.
fn offered<'a>(presentation: &'a Presentation, choice: &Choice) -> Cow<'a, Presentation> {
    if choice.is_all() { Cow::Borrowed(presentation) } else { Cow::Owned(choice.narrow(presentation)) }
}

fn manifest(seen: &Seen, offered: &Presentation, links: &Links<'_>, choice: &Choice) -> Option<String> {
    let query: Vec<String> =
        links.query.map(str::to_owned).into_iter().chain([choice.query()]).filter(|part| !part.is_empty()).collect();
    let query = query.join("&");
    let location = Links { query: Some(query.as_str()).filter(|query| !query.is_empty()), ..*links }.to("manifest.mpd");
    let growing = dash::Growing {
        location: &location,
        available_from_ms: seen.available_from_ms,
        delay_ms: seen.first_length_ms,
        now_ms: now_ms(),
    };
    dash::manifest(offered, links, growing)
}

fn stored(seen: &Seen, path: PublicPath<'_>, content_id: &str) -> Result<Whole> {
    let file = find_file(&seen.presentation, path.name).ok_or(Error::UnknownAsset)?;
    let key = BlobKey::new(format!("media/{content_id}/{}", file.path)).map_err(Error::store("name a stored segment"))?;
    let is_media = path.name != PublicName::Poster;
    Ok(Whole {
        content_type: file.content_type,
        etag: format!("\"{}-{}\"", &hex::encode(Sha256::digest(file.path))[..24], file.size_bytes),
        size_bytes: file.size_bytes,
        // Without a version, the same path means another file once the title is made again.
        immutable: path.version.is_some() && is_media,
        is_media,
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

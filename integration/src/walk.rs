//! Walks every URI reachable from the manifests of a title.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use url::Url;

use crate::{
    manifest::{Dash, MediaPlaylist, dash, media_playlist, multivariant},
    mp4::{check_init, check_segment},
    rest::{Reply, Rest, Session},
};

/// One rendition with its bytes.
#[derive(Debug, Clone)]
pub struct Rendition {
    /// Name, which is also its folder, such as `v720`.
    pub name: String,
    /// Its media playlist.
    pub playlist_url: Url,
    /// The playlist, read.
    pub playlist: MediaPlaylist,
    /// Init segment.
    pub init: Bytes,
    /// Media segments in order.
    pub segments: Vec<Bytes>,
}

impl Rendition {
    /// Length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.playlist.segments.iter().map(|(_, seconds)| seconds).sum()
    }

    /// Whether it is video.
    #[must_use]
    pub fn is_video(&self) -> bool {
        self.name.starts_with('v')
    }

    /// Init segment and all media segments as one file.
    #[must_use]
    pub fn whole(&self) -> Vec<u8> {
        let mut file = self.init.to_vec();
        self.segments.iter().for_each(|segment| file.extend_from_slice(segment));
        file
    }
}

/// A title as a player sees it.
#[derive(Debug, Clone)]
pub struct Title {
    /// Its renditions, each once.
    pub renditions: Vec<Rendition>,
    /// What the DASH manifest names.
    pub dash: Dash,
    /// Every address that was fetched, in order, side assets included.
    pub urls: Vec<Url>,
}

impl Title {
    /// Bytes of all segments.
    #[must_use]
    pub fn media_bytes(&self) -> usize {
        self.renditions
            .iter()
            .map(|rendition| rendition.init.len() + rendition.segments.iter().map(Bytes::len).sum::<usize>())
            .sum()
    }

    /// Number of all media segments.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.renditions.iter().map(|rendition| rendition.segments.len()).sum()
    }
}

/// Fetches everything, and fails unless HLS and DASH are whole and name the same media.
///
/// # Errors
/// When something is missing, cut off or contradictory.
pub async fn whole_title(viewer: &Rest, session: &Session) -> Result<Title> {
    let mut urls = vec![session.hls_url.clone()];
    let master = fetch(viewer, &session.hls_url).await?;
    let master = multivariant(&master.text(), &session.hls_url)?;

    let mut renditions = BTreeMap::new();
    for playlist_url in master.variants.iter().chain(&master.renditions) {
        let rendition = whole_rendition(viewer, playlist_url).await?;
        renditions.insert(rendition.name.clone(), rendition);
    }
    let renditions: Vec<Rendition> = renditions.into_values().collect();
    for rendition in &renditions {
        urls.push(rendition.playlist_url.clone());
        urls.push(rendition.playlist.init.clone());
        urls.extend(rendition.playlist.segments.iter().map(|(url, _)| url.clone()));
    }

    let mpd = fetch(viewer, &session.dash_url).await?;
    let dash = dash(&mpd.text(), &session.dash_url)?;
    urls.push(session.dash_url.clone());
    same_media(&renditions, &dash)?;

    if let Some(poster) = poster(viewer, session).await? {
        urls.push(poster);
    }
    Ok(Title { renditions, dash, urls })
}

async fn whole_rendition(viewer: &Rest, playlist_url: &Url) -> Result<Rendition> {
    let reply = fetch(viewer, playlist_url).await?;
    let playlist = media_playlist(&reply.text(), playlist_url)?;
    let mut parts = playlist_url.path_segments().context("a playlist with a path")?.rev();
    let name = parts.nth(1).unwrap_or_default().to_owned();

    let init = fetch(viewer, &playlist.init).await?.body;
    check_init(&init).with_context(|| format!("{name}: init segment"))?;
    let mut segments = Vec::new();
    for (url, _) in &playlist.segments {
        let segment = fetch(viewer, url).await?.body;
        check_segment(&segment).with_context(|| format!("{name}: {}", url.path()))?;
        segments.push(segment);
    }
    Ok(Rendition { name, playlist_url: playlist_url.clone(), playlist, init, segments })
}

/// HLS and DASH must name the same files.
fn same_media(renditions: &[Rendition], dash: &Dash) -> Result<()> {
    let hls: BTreeSet<&str> = renditions
        .iter()
        .flat_map(|rendition| rendition.playlist.segments.iter().map(|(url, _)| url).chain([&rendition.playlist.init]))
        .map(Url::path)
        .collect();
    let in_dash: BTreeSet<&str> =
        dash.representations.iter().flat_map(|(_, init, segments)| segments.iter().chain([init])).map(Url::path).collect();
    if hls != in_dash {
        let only_one: Vec<_> = hls.symmetric_difference(&in_dash).collect();
        bail!("HLS and DASH do not name the same files: {only_one:?}");
    }
    Ok(())
}

/// The poster lies beside the renditions; audio has none.
async fn poster(viewer: &Rest, session: &Session) -> Result<Option<Url>> {
    let mut url = session.hls_url.clone();
    let folder = url.path().trim_end_matches(".m3u8").to_owned();
    url.set_path(&format!("{folder}/poster.jpg"));
    let reply = viewer.get(url.as_str()).await?;
    Ok((reply.status == 200).then_some(url))
}

/// One asset, whole: its length must be the announced one.
async fn fetch(viewer: &Rest, url: &Url) -> Result<Reply> {
    let reply = viewer.get(url.as_str()).await?.expect(200)?;
    let announced = reply.header("content-length");
    if reply.body.is_empty() || (!announced.is_empty() && announced.parse() != Ok(reply.body.len())) {
        bail!("{}: {announced} bytes announced, {} came", reply.asked, reply.body.len());
    }
    Ok(reply)
}

//! What a viewer shows: a token in the URL, a bearer, or a cookie; in this order.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use streamgate_core::time::{UnixMillis, from_timestamp, now_ms};
use streamgate_proto::streamgate::streaming::v1::AssetHeader;

use crate::{
    context::bearer,
    error::{Error, Result},
};

/// Name of the cookie.
const COOKIE: &str = "sg_play";
/// No token of ours is longer.
const TOKEN_BYTES: usize = 4096;
/// `typ` of a playback token; any other bearer is an identity.
const PLAYBACK_TYPE: &str = "play+jwt";

/// What a viewer shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credential {
    /// Playback token, or empty.
    pub token: String,
    /// The token came in the URL, so every URI of a playlist must carry it.
    pub in_url: bool,
    /// The bearer is an identity and goes along.
    pub pass_bearer: bool,
}

impl Credential {
    /// Reads it from a request. An identity opens a session only at an entry; below it, the cookie of
    /// that session counts.
    ///
    /// # Errors
    /// `Fields` for a token that can't be one of ours.
    pub fn of(headers: &HeaderMap, query: Option<&str>, entry: bool) -> Result<Self> {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        if let Some((_, token)) = pairs.into_iter().find(|(name, _)| name == "token") {
            return Ok(Self { token: checked(&token)?, in_url: true, pass_bearer: false });
        }
        if let Some(bearer) = bearer(headers) {
            if is_playback_token(bearer) {
                return Ok(Self { token: checked(bearer)?, ..Self::default() });
            }
            let token = if entry { String::new() } else { cookie(headers)? };
            return Ok(Self { token, in_url: false, pass_bearer: true });
        }
        Ok(Self { token: cookie(headers)?, ..Self::default() })
    }

    /// When the token says that it ends, and its session with it. Nobody has checked it here.
    #[must_use]
    pub fn ends_ms(&self) -> Option<UnixMillis> {
        part(&self.token, 1)?["exp"].as_i64()?.checked_mul(1000)
    }
}

fn checked(token: &str) -> Result<String> {
    let plain = token.bytes().all(|byte| byte.is_ascii_graphic());
    if plain && token.len() <= TOKEN_BYTES { Ok(token.to_owned()) } else { Err(Error::field("token", "is no playback token")) }
}

fn cookie(headers: &HeaderMap) -> Result<String> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map_or_else(|| Ok(String::new()), |(_, token)| checked(token))
}

/// Looks at the token's own word for what it is; whether it is true, the streaming service finds out.
fn is_playback_token(token: &str) -> bool {
    let head = part(token, 0);
    head.is_some_and(|head| head["typ"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case(PLAYBACK_TYPE)))
}

/// One part of a token as JSON: 0 is its head, 1 its claims.
fn part(token: &str, place: usize) -> Option<serde_json::Value> {
    let mut parts = token.split('.');
    let part = parts.nth(place)?;
    // What has no part after it is no token.
    parts.next()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Cookies for a session that was opened just now: one for each path that playback uses, since a
/// cookie's path ends at a slash and both entries lie beside the title's folder.
#[must_use]
pub fn cookies(playback_id: &str, asset: &AssetHeader, secure: bool) -> Vec<String> {
    if asset.new_token.is_empty() {
        return Vec::new();
    }
    let left = asset.new_token_expires_at.as_ref().map_or(0, |end| from_timestamp(end).saturating_sub(now_ms()) / 1000);
    let secure = if secure { "; Secure" } else { "" };
    let token = &asset.new_token;
    ["", ".m3u8", ".mpd"]
        .into_iter()
        .map(|ending| {
            format!("{COOKIE}={token}; HttpOnly; SameSite=Lax; Path=/play/{playback_id}{ending}; Max-Age={}{secure}", left.max(1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn play_token() -> String {
        format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","typ":"play+jwt"}"#))
    }

    fn shown(bearer: Option<&str>, cookie: Option<&str>, query: Option<&str>, entry: bool) -> Credential {
        let mut headers = HeaderMap::new();
        if let Some(bearer) = bearer {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {bearer}")).unwrap());
        }
        if let Some(cookie) = cookie {
            headers.insert(header::COOKIE, HeaderValue::from_str(&format!("a=b; sg_play={cookie}")).unwrap());
        }
        Credential::of(&headers, query, entry).unwrap()
    }

    #[test]
    fn the_url_wins_over_the_bearer_and_the_bearer_over_the_cookie() {
        let play = play_token();
        assert_eq!(
            shown(Some(&play), Some("c"), Some("token=q"), true),
            Credential { token: "q".into(), in_url: true, pass_bearer: false }
        );
        assert_eq!(shown(Some(&play), Some("c"), None, true), Credential { token: play.clone(), ..Credential::default() });
        assert_eq!(shown(None, Some("c"), None, true), Credential { token: "c".into(), ..Credential::default() });
        assert_eq!(shown(None, None, None, true), Credential::default());
    }

    #[test]
    fn an_identity_opens_an_entry_and_the_cookie_serves_what_lies_below() {
        let entry = shown(Some("sgk_1"), Some("c"), None, true);
        assert_eq!(entry, Credential { token: String::new(), in_url: false, pass_bearer: true });
        let below = shown(Some("sgk_1"), Some("c"), None, false);
        assert_eq!(below, Credential { token: "c".into(), in_url: false, pass_bearer: true });
    }

    #[test]
    fn a_token_that_can_be_none_is_refused() {
        for query in ["token=a%0d%0ab".to_owned(), format!("token={}", "a".repeat(TOKEN_BYTES + 1))] {
            assert!(Credential::of(&HeaderMap::new(), Some(&query), true).is_err());
        }
    }

    #[test]
    fn a_token_tells_when_it_ends() {
        let ends = |claims: &str| {
            let claims = URL_SAFE_NO_PAD.encode(claims);
            Credential { token: format!("e30.{claims}.c2ln"), ..Credential::default() }.ends_ms()
        };
        assert_eq!(ends(r#"{"exp":1700000000}"#), Some(1_700_000_000_000));
        for none in ["{}", r#"{"exp":"soon"}"#, r#"{"exp":9223372036854775807}"#, "{"] {
            assert_eq!(ends(none), None, "{none}");
        }
        assert_eq!(Credential { token: "t".into(), ..Credential::default() }.ends_ms(), None);
    }

    #[test]
    fn cookies_are_bound_to_the_title_and_hidden_from_scripts() {
        let asset = AssetHeader { new_token: "t".into(), ..AssetHeader::default() };
        let cookies = cookies("pbk_1", &asset, true);
        assert_eq!(cookies[0], "sg_play=t; HttpOnly; SameSite=Lax; Path=/play/pbk_1; Max-Age=1; Secure");
        assert_eq!(cookies.len(), 3);
        assert!(super::cookies("pbk_1", &AssetHeader::default(), true).is_empty());
    }
}

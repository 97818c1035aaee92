//! Pages from which wallets may sign in. Wallets only warn about a foreign domain, so this list is the defence.

use http::Uri;

/// An origin: scheme and authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    /// Host, and port where it is not the scheme's own.
    pub authority: String,
}

impl Origin {
    /// The origin as text.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }
}

/// Reads an origin such as `https://video.example:8443`. A path is not part of one; a final slash is let pass.
#[must_use]
pub fn parse(text: &str) -> Option<Origin> {
    let uri: Uri = text.strip_suffix('/').unwrap_or(text).parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?.to_owned();
    let authority = uri.authority()?;
    let has_more =
        !matches!(uri.path(), "" | "/") || uri.query().is_some() || authority.as_str().contains('@') || text.ends_with("//");
    if has_more || authority.host().is_empty() {
        return None;
    }
    let own_port = if scheme == "http" { 80 } else { 443 };
    let host = authority.host().to_ascii_lowercase();
    let authority = match authority.port_u16() {
        Some(port) if port != own_port => format!("{host}:{port}"),
        _ => host,
    };
    Some(Origin { scheme, authority })
}

/// The allowed origins; the first is used when a caller names none.
#[derive(Debug, Clone)]
pub struct Origins(Vec<Origin>);

impl Origins {
    /// The public URL, its loopback twin, and those configured beside it. Absent when the public URL is no origin.
    #[must_use]
    pub fn new(public_url: &str, others: &[String]) -> Option<Self> {
        let public = parse(public_url)?;
        let twin = twin(&public);
        let mut all = vec![public];
        all.extend(twin);
        all.extend(others.iter().filter_map(|origin| parse(origin)));
        Some(Self(all))
    }

    /// The allowed origin that `text` names; the public one when it is empty.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<&Origin> {
        if text.is_empty() {
            return self.0.first();
        }
        let wanted = parse(text)?;
        self.0.iter().find(|origin| **origin == wanted)
    }

    /// Whether some allowed origin has this authority.
    #[must_use]
    pub fn has_authority(&self, authority: &str) -> bool {
        self.0.iter().any(|origin| origin.authority == authority)
    }
}

/// `localhost` and `127.0.0.1` are the same machine to the person who types them.
fn twin(origin: &Origin) -> Option<Origin> {
    let (host, port) =
        origin.authority.split_once(':').map_or((origin.authority.as_str(), None), |(host, port)| (host, Some(port)));
    let other = match host {
        "localhost" => "127.0.0.1",
        "127.0.0.1" => "localhost",
        _ => return None,
    };
    let authority = port.map_or_else(|| other.to_owned(), |port| format!("{other}:{port}"));
    Some(Origin { scheme: origin.scheme.clone(), authority })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_platform_is_reached_by_both_names() {
        let origins = Origins::new("http://localhost:9090", &[]).unwrap();
        for good in ["", "http://localhost:9090", "http://127.0.0.1:9090/", "http://LOCALHOST:9090"] {
            assert!(origins.find(good).is_some(), "{good}");
        }
        for bad in [
            "https://localhost:9090",
            "http://localhost",
            "http://localhost:9090.evil.example",
            "http://evil@localhost:9090",
            "null",
        ] {
            assert!(origins.find(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_schemes_own_port_is_left_out() {
        let origins = Origins::new("https://video.example:443/", &["http://other.example:8080".into()]).unwrap();
        assert_eq!(origins.find("https://video.example").unwrap().authority, "video.example");
        assert_eq!(origins.find("").unwrap().url(), "https://video.example");
        assert!(origins.has_authority("other.example:8080"));
        assert!(origins.find("https://video.example/path").is_none());
    }
}

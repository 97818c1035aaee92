//! Every chain that gates may name, and the pools of those with endpoints.

use std::{collections::BTreeMap, fmt, sync::Arc};

use streamgate_core::{
    chains::{KNOWN, known},
    evm::ChainId,
};
use url::Url;

use super::{ChainReader, Limits, Pool};

/// A configured endpoint that can't be one. Does not show the URL: it may hold a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chain {chain}: {what}")]
pub struct BadEndpoint {
    chain: u64,
    what: String,
}

/// A chain as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainStatus {
    /// Its id.
    pub id: ChainId,
    /// Its name.
    pub name: String,
    /// Symbol of its own coin.
    pub symbol: &'static str,
    /// Its coins are worth nothing.
    pub testnet: bool,
    /// It has an endpoint.
    pub configured: bool,
    /// Shut down by its makers.
    pub retired: bool,
}

/// Readers by chain.
#[derive(Clone, Default)]
pub struct Chains {
    readers: BTreeMap<ChainId, Arc<dyn ChainReader>>,
}

impl Chains {
    /// Pools over the configured endpoints. Nothing is called yet: an endpoint proves its chain at every read.
    ///
    /// # Errors
    /// A retired chain, a URL that is not http or https, or no HTTP client.
    pub fn connect(endpoints: &BTreeMap<u64, Vec<String>>, limits: &Limits) -> Result<Self, BadEndpoint> {
        let fault = |chain: u64, what: String| BadEndpoint { chain, what };
        // A redirect would lead reads, and the key in the URL, to somewhere nobody configured.
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(limits.per_try);
        let http = http.build().map_err(|_| fault(0, "no HTTP client can be made".to_owned()))?;
        let mut readers: BTreeMap<ChainId, Arc<dyn ChainReader>> = BTreeMap::new();
        for (number, urls) in endpoints.iter().filter(|(_, urls)| !urls.is_empty()) {
            let chain = ChainId::new(*number).map_err(|e| fault(*number, e.to_string()))?;
            let urls = urls.iter().map(|url| parse(url)).collect::<Result<Vec<_>, _>>().map_err(|what| fault(*number, what))?;
            readers.insert(chain, Arc::new(Pool::new(chain, urls, &http, limits.clone())));
        }
        Ok(Self { readers })
    }

    /// The same with a reader for `chain`.
    #[must_use]
    pub fn with(mut self, chain: ChainId, reader: Arc<dyn ChainReader>) -> Self {
        self.readers.insert(chain, reader);
        self
    }

    /// The reader of a chain, if it has endpoints.
    #[must_use]
    pub fn reader(&self, chain: ChainId) -> Option<&Arc<dyn ChainReader>> {
        self.readers.get(&chain)
    }

    /// The known chains, then the others that have endpoints.
    #[must_use]
    pub fn list(&self) -> Vec<ChainStatus> {
        let others = self.readers.keys().copied().filter(|id| known(id.number()).is_none());
        KNOWN.iter().map(|chain| ChainId::any(chain.number)).chain(others).map(|id| self.status(id)).collect()
    }

    fn status(&self, id: ChainId) -> ChainStatus {
        let known = known(id.number());
        ChainStatus {
            id,
            name: id.name(),
            symbol: id.symbol(),
            // A chain nobody knows is a local or a private one.
            testnet: known.is_none_or(|chain| chain.testnet),
            configured: self.readers.contains_key(&id),
            retired: known.is_some_and(|chain| chain.retired),
        }
    }
}

fn parse(url: &str) -> Result<Url, String> {
    let url = Url::parse(url.trim()).map_err(|_| "an endpoint is not a URL".to_owned())?;
    if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() {
        return Ok(url);
    }
    Err("an endpoint must be an http or https URL".to_owned())
}

impl fmt::Debug for Chains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.readers.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_endpoint_is_refused_without_showing_it() {
        for (chain, url) in [(1, "ftp://SECRET"), (1, "SECRET"), (80001, "http://SECRET"), (0, "http://SECRET")] {
            let refused = Chains::connect(&BTreeMap::from([(chain, vec![url.to_owned()])]), &Limits::default()).unwrap_err();
            assert!(!refused.to_string().contains("SECRET"), "{refused}");
        }
    }

    #[test]
    fn ten_living_chains_are_known_and_any_other_with_an_endpoint() {
        let endpoints = BTreeMap::from([(31337, vec!["http://127.0.0.1:1".to_owned()])]);
        let list = Chains::connect(&endpoints, &Limits::default()).unwrap().list();
        assert_eq!(list.iter().filter(|chain| !chain.retired).count(), 11);
        assert_eq!(list.iter().filter(|chain| chain.retired).map(|chain| chain.id.number()).collect::<Vec<_>>(), [80001]);
        assert_eq!(list.iter().filter(|chain| chain.configured).map(|chain| chain.id.number()).collect::<Vec<_>>(), [31337]);
    }
}

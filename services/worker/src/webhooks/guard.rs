//! Where webhooks may be sent to: public addresses, and nothing inside.
//!
//! Whoever makes an endpoint chooses its URL, and this service stands in a network whose other
//! machines trust it. So the URL is checked when it is given, and the address again at every dial: a
//! name may lead elsewhere by then. The address that was checked is the one that is dialled.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Longest URL of an endpoint.
const MAX_URL: usize = 2_048;
/// Ports below this belong to services of the system, which speak no HTTP.
const FIRST_FREE_PORT: u16 = 1_024;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why a URL is no place for webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a URL, or one without a host.
    #[error("must be a URL such as https://example.org/hook, of at most {MAX_URL} bytes")]
    NotAUrl,
    /// Plain HTTP, or something else.
    #[error("must begin with https://")]
    Scheme,
    /// A user name or password.
    #[error("must not hold a user name or a password")]
    Credentials,
    /// A port of the system.
    #[error("must use port 443, or one above 1023")]
    Port,
    /// A name of the local network.
    #[error("must name a host by its whole public name")]
    LocalName,
    /// An address of a private network.
    #[error("leads to an address that is not public")]
    Address,
}

/// What may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Public addresses over HTTPS.
    Public,
    /// Anything: for development and tests, where receivers are on the same machine.
    Open,
}

impl Guard {
    /// Reads and checks a URL. Its fragment is dropped.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn check_url(self, text: &str) -> Result<Url, Refused> {
        // Parsers drop line breaks and tabs in silence; a person should see what is called.
        let is_plain = text.len() <= MAX_URL && text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('\\');
        let mut url = if is_plain { Url::parse(text).map_err(|_| Refused::NotAUrl)? } else { return Err(Refused::NotAUrl) };
        let host = url.host().ok_or(Refused::NotAUrl)?;
        match (url.scheme(), self) {
            ("https", _) | ("http", Self::Open) => {}
            _ => return Err(Refused::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        if self == Self::Public {
            if url.port().is_some_and(|port| port < FIRST_FREE_PORT) {
                return Err(Refused::Port);
            }
            self.check_host(&host)?;
        }
        url.set_fragment(None);
        Ok(url)
    }

    fn check_host(self, host: &Host<&str>) -> Result<(), Refused> {
        let address = match host {
            Host::Domain(name) => return if is_whole_name(name) { Ok(()) } else { Err(Refused::LocalName) },
            Host::Ipv4(address) => IpAddr::V4(*address),
            Host::Ipv6(address) => IpAddr::V6(*address),
        };
        if self.allows(address) { Ok(()) } else { Err(Refused::Address) }
    }

    /// Whether an address may be dialled.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Open, _) => true,
            (Self::Public, IpAddr::V4(address)) => is_public_v4(address),
            (Self::Public, IpAddr::V6(address)) => is_public_v6(address),
        }
    }
}

/// A name with a dot that is of no local network. Where it leads is looked at when it is dialled.
fn is_whole_name(name: &str) -> bool {
    const LOCAL: [&str; 8] = [".localhost", ".local", ".internal", ".intranet", ".lan", ".home.arpa", ".svc", ".cluster.local"];
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.contains('.') && !LOCAL.iter().any(|ending| name.ends_with(ending))
}

/// Not one of the special-purpose blocks of RFC 6890 and its successors, nor a cloud's metadata service.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let blocked: [([u8; 4], u32); 18] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 31, 196, 0], 24),
        ([192, 52, 193, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([192, 175, 48, 0], 24),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        // Multicast, reserved and broadcast.
        ([224, 0, 0, 0], 3),
        // The one address through which a cloud's machines reach their host.
        ([168, 63, 129, 16], 32),
    ];
    let bits = u32::from(address);
    !blocked.iter().any(|(network, length)| (bits ^ u32::from(Ipv4Addr::from(*network))) >> (32 - length) == 0)
}

/// Global unicast that holds no IPv4 address of a private network.
fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [first, second, third, ..] = address.segments();
    // NAT64 (RFC 6052): the last four bytes are dialled in the end.
    if first == 0x64 && second == 0xff9b && address.segments()[2..6] == [0; 4] {
        let octets = address.octets();
        return is_public_v4(Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]));
    }
    let global_unicast = first & 0xe000 == 0x2000;
    let special = match first {
        // Protocols (Teredo, benchmarks, ORCHID) and documentation.
        0x2001 => second < 0x0200 || second == 0x0db8,
        // 6to4, with any IPv4 address inside.
        0x2002 => true,
        // Documentation.
        0x3fff => second < 0x1000,
        // The sink of reverse lookups.
        0x2620 => second == 0x004f && third == 0x8000,
        _ => false,
    };
    global_unicast && !special
}

/// Looks names up.
#[async_trait]
pub trait Names: Send + Sync + 'static {
    /// Every address of `name`.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's own lookup.
#[derive(Debug, Clone, Copy)]
pub struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Gives a client only addresses that may be dialled.
#[derive(Clone)]
pub struct GuardedNames {
    guard: Guard,
    names: Arc<dyn Names>,
}

impl fmt::Debug for GuardedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedNames").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl GuardedNames {
    /// Lets `guard` decide what `names` finds.
    #[must_use]
    pub fn new(guard: Guard, names: Arc<dyn Names>) -> Self {
        Self { guard, names }
    }

    /// The addresses of a name. One that may not be dialled spoils them all: who mixes them means no good.
    ///
    /// # Errors
    /// A name that has none, or a refused one.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let mut found = self.names.addresses(name).await?;
        if !found.iter().all(|address| self.guard.allows(*address)) {
            return Err(Refused::Address.into());
        }
        found.truncate(MAX_ADDRESSES);
        if found.is_empty() { Err(io::Error::from(io::ErrorKind::NotFound).into()) } else { Ok(found) }
    }
}

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let addresses = names.addresses(name.as_str()).await?;
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;

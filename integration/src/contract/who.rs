//! Who calls.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use aws_lc_rs::hmac;
use reqwest::header::{HeaderMap, HeaderValue};
use streamgate_core::Access;

/// Seconds a service credential is good for.
const LIFETIME_SECONDS: u64 = 30;

/// A caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Without any credential.
    Anonymous,
    /// With a service credential that another mesh made.
    Forger,
    /// A wallet that has signed in.
    Viewer,
    /// The creator whose things the samples name.
    Owner,
    /// Another creator.
    OtherCreator,
    /// An operator.
    Operator,
    /// A service of the mesh.
    Service,
}

impl Who {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Anonymous, Self::Forger, Self::Viewer, Self::Owner, Self::OtherCreator, Self::Operator, Self::Service];

    /// Whether the contract lets this caller in.
    #[must_use]
    pub const fn is_admitted(self, access: Access) -> bool {
        match access {
            // A credential that proves nothing is refused even where none is needed.
            Access::Public => !matches!(self, Self::Forger),
            Access::Viewer => !matches!(self, Self::Anonymous | Self::Forger),
            Access::Creator => matches!(self, Self::Owner | Self::OtherCreator | Self::Operator | Self::Service),
            Access::Operator => matches!(self, Self::Operator | Self::Service),
            Access::Internal => matches!(self, Self::Service),
        }
    }

    /// Whether things of others are open to this caller.
    #[must_use]
    pub const fn sees_all(self) -> bool {
        matches!(self, Self::Operator | Self::Service)
    }

    /// Whether this caller only exists inside the mesh, where the edge is not in between.
    #[must_use]
    pub const fn is_inside(self) -> bool {
        matches!(self, Self::Service | Self::Forger)
    }
}

/// What the callers prove themselves with.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Access token of a wallet.
    pub viewer: String,
    /// API key.
    pub owner: String,
    /// API key.
    pub other_creator: String,
    /// API key.
    pub operator: String,
    /// The secret that the services share.
    pub mesh_secret: String,
}

impl Credentials {
    /// The headers of a call.
    ///
    /// # Errors
    /// When a credential is no header.
    pub fn headers(&self, who: Who) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        let bearer = match who {
            Who::Anonymous | Who::Forger | Who::Service => None,
            Who::Viewer => Some(&self.viewer),
            Who::Owner => Some(&self.owner),
            Who::OtherCreator => Some(&self.other_creator),
            Who::Operator => Some(&self.operator),
        };
        if let Some(bearer) = bearer {
            headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {bearer}"))?);
        }
        let secret = match who {
            Who::Service => self.mesh_secret.as_str(),
            Who::Forger => "the secret of another mesh, just as long",
            _ => return Ok(headers),
        };
        headers.insert("x-streamgate-service", HeaderValue::from_str(&service_credential(secret)?)?);
        Ok(headers)
    }
}

/// What a service of a mesh with this secret proves itself with: name, expiry and their MAC.
fn service_credential(secret: &str) -> Result<String> {
    let expiry = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + LIFETIME_SECONDS;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mac = hmac::sign(&key, format!("worker|{expiry}|").as_bytes());
    let mac: String = mac.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("worker.{expiry}.{mac}"))
}

//! Who is calling.

use std::{fmt, str::FromStr};

use tonic::Status;

use crate::{ids::AccountId, service::ServiceName};

/// What an account may do. Each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// May sign in and play.
    Viewer,
    /// May own titles.
    Creator,
    /// May run the platform.
    Operator,
}

impl Role {
    /// The role as it stands on the wire and in tokens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Creator => "creator",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a role is viewer, creator or operator")]
pub struct BadRole;

impl FromStr for Role {
    type Err = BadRole;

    fn from_str(text: &str) -> Result<Self, BadRole> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "creator" => Ok(Self::Creator),
            "operator" => Ok(Self::Operator),
            _ => Err(BadRole),
        }
    }
}

/// A signed-in account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// What it may do.
    pub role: Role,
    /// CAIP-10 wallet it proved, such as `eip155:1:0x…`. Absent for an API key.
    pub wallet: Option<String>,
}

/// Whom the credentials of a call prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// No credentials were given.
    Anonymous,
    /// A signed-in account.
    Account(Account),
    /// A service of the mesh, perhaps acting for an account.
    Service {
        /// Which one.
        name: ServiceName,
        /// For whom it acts.
        on_behalf_of: Option<Account>,
    },
}

/// The caller of an RPC: put into each request by the runtime, once, before a handler runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whom the credentials prove.
    pub identity: Identity,
    /// Names this request in every log and answer.
    pub request_id: String,
}

impl Caller {
    /// The caller of a request that came through the runtime.
    ///
    /// # Errors
    /// `Internal` when the request did not, so nobody was authenticated.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| Status::internal("the caller was not authenticated"))
    }

    /// The account that acts: its own, or the one a service acts for.
    #[must_use]
    pub const fn account(&self) -> Option<&Account> {
        match &self.identity {
            Identity::Account(account) => Some(account),
            Identity::Service { on_behalf_of, .. } => on_behalf_of.as_ref(),
            Identity::Anonymous => None,
        }
    }

    /// Whether a service calls for itself, for no account.
    #[must_use]
    pub const fn is_service(&self) -> bool {
        matches!(self.identity, Identity::Service { on_behalf_of: None, .. })
    }

    /// Whether the caller runs the platform.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.account().is_some_and(|account| account.role == Role::Operator)
    }

    /// Whether the caller may act on what `owner` owns: the owner, an operator, or a service for itself.
    #[must_use]
    pub fn may_act_for(&self, owner: &str) -> bool {
        self.is_service() || self.is_operator() || self.account().is_some_and(|account| account.id.as_str() == owner)
    }
}

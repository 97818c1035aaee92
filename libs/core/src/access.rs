//! Who may call which RPC, as the contracts declare it.

use streamgate_proto::METHOD_ACCESS;

use crate::{
    caller::{Caller, Identity, Role},
    error::{ErrorKind, Failure},
};

/// First words of the names of calls that change nothing, so that they may be repeated and need
/// no entry in the audit log.
const READING_VERBS: [&str; 13] = [
    "Get",
    "List",
    "Search",
    "Read",
    "Resolve",
    "Verify",
    "Evaluate",
    "Explain",
    "Authenticate",
    "Check",
    "Watch",
    "Wait",
    "Deliver",
];

/// Whether a call changes nothing that its caller could see, by the verb its name begins with.
#[must_use]
pub fn only_reads(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    READING_VERBS
        .iter()
        .any(|verb| name.strip_prefix(verb).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_lowercase())))
}

/// The least a caller must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Public,
    /// Any signed-in account.
    Viewer,
    /// An account that may own titles.
    Creator,
    /// An account that runs the platform.
    Operator,
    /// A service of the mesh.
    Internal,
}

impl Access {
    /// What the contract declares for `path`, such as `/streamgate.auth.v1.AuthService/Login`.
    /// Absent when no contract has that RPC.
    #[must_use]
    pub fn of_method(path: &str) -> Option<Self> {
        let row = METHOD_ACCESS.binary_search_by(|(known, _)| (*known).cmp(path)).ok()?;
        match METHOD_ACCESS[row].1 {
            1 => Some(Self::Public),
            2 => Some(Self::Viewer),
            3 => Some(Self::Creator),
            4 => Some(Self::Operator),
            5 => Some(Self::Internal),
            _ => None,
        }
    }

    /// Lets the caller through, or says why not. A service acting for an account is
    /// let through as that account, so the edge can't lend its own rights.
    ///
    /// # Errors
    /// `Unauthenticated` without an identity, `PermissionDenied` with too small a one.
    pub fn admit(self, caller: &Caller) -> Result<(), Failure> {
        if self == Self::Public || caller.is_service() {
            return Ok(());
        }
        let needed = match self {
            Self::Public | Self::Viewer => Role::Viewer,
            Self::Creator => Role::Creator,
            Self::Operator => Role::Operator,
            Self::Internal => return self.admit_internal(caller),
        };
        match caller.account() {
            None => Err(sign_in_first()),
            Some(account) if account.role >= needed => Ok(()),
            Some(account) => Err(Failure::new(
                ErrorKind::PermissionDenied,
                "role_too_small",
                format!("this call needs the role {needed}; this account is a {}", account.role),
            )),
        }
    }

    fn admit_internal(self, caller: &Caller) -> Result<(), Failure> {
        match caller.identity {
            Identity::Service { .. } => Ok(()),
            Identity::Anonymous => Err(sign_in_first()),
            Identity::Account(_) => {
                Err(Failure::new(ErrorKind::PermissionDenied, "internal_only", "only services of the mesh may make this call"))
            }
        }
    }
}

fn sign_in_first() -> Failure {
    Failure::new(ErrorKind::Unauthenticated, "credentials_missing", "sign in first, or send an API key as a bearer token")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caller::Account, ids::AccountId, service::ServiceName};

    fn account(role: Role) -> Account {
        Account { id: AccountId::new(), role, wallet: None }
    }

    fn caller(identity: Identity) -> Caller {
        Caller { identity, request_id: "r".into() }
    }

    #[test]
    fn every_rpc_of_the_contracts_has_a_declared_access() {
        assert!(!METHOD_ACCESS.is_empty());
        for (path, _) in METHOD_ACCESS {
            assert!(Access::of_method(path).is_some(), "{path}");
        }
        assert_eq!(Access::of_method("/streamgate.auth.v1.AuthService/Nope"), None);
    }

    #[test]
    fn each_level_admits_its_role_and_the_larger_ones() {
        let levels = [(Access::Viewer, Role::Viewer), (Access::Creator, Role::Creator), (Access::Operator, Role::Operator)];
        for (access, needed) in levels {
            for role in [Role::Viewer, Role::Creator, Role::Operator] {
                let admitted = access.admit(&caller(Identity::Account(account(role)))).is_ok();
                assert_eq!(admitted, role >= needed, "{access:?} {role}");
            }
            assert_eq!(access.admit(&caller(Identity::Anonymous)).map_err(|f| f.kind), Err(ErrorKind::Unauthenticated));
        }
    }

    #[test]
    fn a_service_acting_for_a_viewer_is_no_more_than_a_viewer() {
        let edge = Identity::Service { name: ServiceName::ApiGateway, on_behalf_of: Some(account(Role::Viewer)) };
        assert!(Access::Creator.admit(&caller(edge.clone())).is_err());
        assert!(Access::Viewer.admit(&caller(edge)).is_ok());
    }

    #[test]
    fn a_call_only_reads_when_its_name_begins_with_a_reading_verb() {
        for path in ["/streamgate.auth.v1.AuthService/GetJwks", "/streamgate.events.v1.EventService/Deliver", "/a.B/Get"] {
            assert!(only_reads(path), "{path}");
        }
        for path in ["/streamgate.auth.v1.AuthService/Login", "/a.B/Getaway", "/a.B/Listen", "", "/a.Get/Set"] {
            assert!(!only_reads(path), "{path}");
        }
    }

    #[test]
    fn an_operator_is_not_a_service() {
        let operator = caller(Identity::Account(account(Role::Operator)));
        assert_eq!(Access::Internal.admit(&operator).map_err(|f| f.kind), Err(ErrorKind::PermissionDenied));
    }
}

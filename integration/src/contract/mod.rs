//! Every RPC and every REST binding, called as everybody with everything: made from the contracts alone, so that a new
//! RPC is covered by itself.

mod answer;
mod call;
mod sample;
mod who;

use anyhow::{Context as _, Result};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use streamgate_core::{Access, service::ServiceName};
use streamgate_proto::{FILE_DESCRIPTOR_SET, METHOD_ACCESS};

pub use answer::{Answer, Kind};
pub use call::{Binding, Doors};
pub use sample::{Ids, Input, Sample};
pub use who::{Credentials, Who};

/// An RPC of the contracts.
#[derive(Debug, Clone)]
pub struct Rpc {
    /// Where it is called, such as `/streamgate.auth.v1.AuthService/Login`.
    pub path: &'static str,
    /// The least a caller must be.
    pub access: Access,
    /// Its descriptor.
    pub method: MethodDescriptor,
    /// The services that serve it.
    pub served_by: Vec<ServiceName>,
    /// Ways to call it over REST.
    pub bindings: Vec<Binding>,
}

impl Rpc {
    /// All RPCs of all contracts.
    ///
    /// # Errors
    /// When the descriptors do not fit each other.
    pub fn all() -> Result<Vec<Self>> {
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
        METHOD_ACCESS.iter().map(|(path, _)| Self::of(&pool, path)).collect()
    }

    fn of(pool: &DescriptorPool, path: &'static str) -> Result<Self> {
        let (service, name) = path.trim_start_matches('/').split_once('/').context("a path has two parts")?;
        let contract = pool.get_service_by_name(service).with_context(|| format!("{service} is not described"))?;
        let method =
            contract.methods().find(|method| method.name() == name).with_context(|| format!("{path} is not described"))?;
        let access = Access::of_method(path).with_context(|| format!("{path} declares no access"))?;
        // Events are delivered to every service that consumes some; one stands for all.
        let served_by = vec![ServiceName::of_grpc_service(service).unwrap_or(ServiceName::Metadata)];
        let bindings = Binding::of(pool, &method)?;
        Ok(Self { path, access, method, served_by, bindings })
    }

    /// Name without package and service.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether a call takes things away, so that it is tried last.
    #[must_use]
    pub fn takes_away(&self) -> bool {
        const VERBS: [&str; 8] = ["Delete", "Revoke", "End", "Cancel", "Clear", "Purge", "Logout", "Sweep"];
        VERBS.iter().any(|verb| self.name().starts_with(verb))
    }

    /// Whether it answers with what the caller may see of a collection.
    #[must_use]
    pub fn lists(&self) -> bool {
        ["List", "Search"].iter().any(|verb| self.name().starts_with(verb))
    }
}

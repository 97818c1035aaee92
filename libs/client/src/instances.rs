//! The instances behind a target, each for itself: for those who watch them.

use std::{io, net::SocketAddr, sync::Arc};

use streamgate_core::ServiceName;

use crate::{
    channel::MeshChannel,
    endpoints::{connect, look_up},
    mesh::{HealthClient, Mesh},
};

impl Mesh {
    /// Where each instance of a service is now: every address of its target's name.
    ///
    /// # Errors
    /// When the name can't be looked up.
    pub async fn instances(&self, name: ServiceName) -> io::Result<Vec<SocketAddr>> {
        let target = self.target(name);
        let authority = target.split_once("://").map_or(target, |(_, rest)| rest);
        let mut found = look_up(authority).await?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Health of one instance, over a connection of its own. Absent when there can be no channel
    /// to the address.
    #[must_use]
    pub fn instance_health(&self, name: ServiceName, address: SocketAddr) -> Option<HealthClient> {
        let url = format!("http://{address}");
        let channel = connect(&url)?;
        let route = Arc::new(self.route(name).to_instance(url, channel));
        Some(HealthClient::new(MeshChannel::new(route, None)))
    }
}

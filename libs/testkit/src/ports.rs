//! Ports nobody listens on.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result};

/// A port that was free a moment ago.
///
/// # Errors
/// When the machine gives out no port.
pub fn free_port() -> Result<u16> {
    Ok(free_ports(1)?.first().copied().unwrap_or_default())
}

/// As many different ports that were free a moment ago.
///
/// # Errors
/// When the machine gives out no port.
pub fn free_ports(count: usize) -> Result<Vec<u16>> {
    // All are held until the last is found, so that they differ.
    let held = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("look for a free port"))
        .collect::<Result<Vec<_>>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

//! What tests and the demo share: waiting for a state, a local EVM node, wallets that sign, a capture of
//! the log, the engines of a cluster, and a handle on the real `streamgate` process.
//!
//! Nothing here fakes the platform. [`Platform`] runs the real binary, [`Anvil`] a real EVM node, [`engines`] the real
//! PostgreSQL, Redis, NATS and S3.

mod anvil;
pub mod engines;
mod eventually;
mod evm;
mod logs;
mod nursery;
mod paths;
mod platform;
mod ports;
mod process;
pub mod rows;
mod wallet;

pub use anvil::Anvil;
pub use eventually::{eventually, eventually_every};
pub use evm::{DemoPass, EvmNode};
pub use logs::{LogCapture, LogLine};
pub use paths::{default_clip, repository, shared_media, tool};
pub use platform::{Engines, Platform, PlatformBuilder, ServicePorts, Shape};
pub use ports::{free_port, free_ports};
pub use wallet::Wallet;

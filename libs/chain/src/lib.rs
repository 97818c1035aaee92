//! EVM chains: sign-in messages (EIP-4361), signatures (EIP-191), and gates read from contracts.
//!
//! - [`siwe`] parses and prints sign-in messages; [`signature`] recovers who signed.
//! - [`rpc`] reads a chain at one block through several endpoints.
//! - [`gates`] answers gates in three values, reading the leaves of many gates together.
//!
//! Contract types come from `ethers-core` and `ethers-contract`, and stay inside this crate: what it
//! shows to others are the words of `core::evm` and its own [`rpc::ChainReader`].

pub mod abi;
pub mod gates;
pub mod rpc;
pub mod signature;
pub mod siwe;
#[cfg(test)]
mod vectors;

pub use gates::{Decision, Evaluator, Query};
pub use rpc::{ChainReader, Chains};

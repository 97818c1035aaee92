//! The platform as a whole: the demo, and what the system tests stand on.
//!
//! Everything here speaks to the real `streamgate` binary over HTTP, as a creator or a viewer would.

pub mod contract;
pub mod demo;
pub mod manifest;
pub mod mp4;
pub mod receiver;
pub mod rest;
pub mod rounds;
pub mod stage;
pub mod tools;
pub mod walk;
pub mod watching;

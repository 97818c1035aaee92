//! Words that every service shares: ids, callers, error kinds, pages, and the conversions
//! between wire types and strict domain types. No tokio and no disk.

pub mod access;
pub mod caller;
pub mod chains;
pub mod error;
pub mod events;
pub mod evm;
pub mod gate;
pub mod ids;
pub mod page;
pub mod service;
pub mod time;

pub use access::Access;
pub use caller::{Account, Caller, Identity, Role};
pub use error::{ErrorKind, Failure, FieldViolation};
pub use service::ServiceName;

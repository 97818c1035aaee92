//! What every request passes through, outermost first: request id and errors, CORS, rate limits.

pub mod cors;
pub mod finish;
pub mod headers;
pub mod limit;
pub mod request_id;

pub use finish::around;

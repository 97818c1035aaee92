//! What every request passes through, outermost first: request id and errors, CORS, what is no request at all, rate limits.

pub mod cors;
mod entry;
pub mod finish;
pub mod headers;
pub mod limit;
pub mod patience;
pub mod request_id;

pub use finish::around;

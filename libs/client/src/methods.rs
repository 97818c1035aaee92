//! What the contracts say about each method that a channel needs to know.

use std::collections::HashMap;

use streamgate_core::access::only_reads;
use streamgate_proto::{METHOD_ACCESS, STREAMING_METHODS};

/// How a method is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Method {
    /// One request and one response.
    pub(crate) unary: bool,
    /// Sending it twice does no harm.
    pub(crate) repeatable: bool,
}

/// Every method of the contracts by path.
#[derive(Debug)]
pub(crate) struct Methods(HashMap<&'static str, Method>);

impl Methods {
    pub(crate) fn of_contracts() -> Self {
        let method = |path| Method { unary: STREAMING_METHODS.binary_search(&path).is_err(), repeatable: only_reads(path) };
        Self(METHOD_ACCESS.iter().map(|(path, _)| (*path, method(path))).collect())
    }

    /// A path of no contract is treated as a stream: it gets no deadline and is sent once.
    pub(crate) fn of(&self, path: &str) -> Method {
        let health = Method { unary: true, repeatable: true };
        match self.0.get(path) {
            Some(method) => *method,
            None if path == "/grpc.health.v1.Health/Check" => health,
            None => Method { unary: false, repeatable: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contracts_say_which_calls_stream_and_which_may_be_repeated() {
        let methods = Methods::of_contracts();
        assert_eq!(methods.of("/streamgate.auth.v1.AuthService/GetJwks"), Method { unary: true, repeatable: true });
        assert_eq!(methods.of("/streamgate.auth.v1.AuthService/Login"), Method { unary: true, repeatable: false });
        assert!(!methods.of("/streamgate.upload.v1.UploadService/WriteUpload").unary);
        assert!(!methods.of("/unknown.Service/Call").unary);
    }
}

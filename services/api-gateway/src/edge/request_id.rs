//! Names each request, in every log and answer.

use http::{HeaderMap, HeaderValue};

use crate::context::REQUEST_ID;

/// Longest id that is taken from a caller.
const LONGEST: usize = 64;

/// The caller's own id if it is a sane one, else a new one. The request carries it from here on.
pub fn assign(headers: &mut HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| is_sane(id.as_bytes())).cloned();
    let id = given.unwrap_or_else(fresh);
    headers.insert(REQUEST_ID, id.clone());
    id
}

fn is_sane(id: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !id.is_empty() && id.len() <= LONGEST && id.iter().all(allowed)
}

fn fresh() -> HeaderValue {
    let id = uuid::Uuid::now_v7().simple().to_string();
    HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("unnamed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(given: &'static str) -> String {
        let mut headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(given))]);
        let id = assign(&mut headers);
        assert_eq!(headers[REQUEST_ID], id);
        id.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_is_replaced() {
        assert_eq!(assigned("trace-1.a_B"), "trace-1.a_B");
        for bad in ["", "a b", "<script>", "0123456789012345678901234567890123456789012345678901234567890123456789"] {
            assert_ne!(assigned(bad), bad);
        }
    }
}

//! JSON-RPC 2.0, strictly: what is not clearly an answer is a fault of the endpoint.

use std::collections::HashMap;

use serde_json::{Value, json};

/// A request without its id.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub method: &'static str,
    pub params: Value,
}

/// An answer to one request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Result(Value),
    Error {
        code: i64,
        message: String,
    },
    /// The endpoint left it out of the batch.
    Missing,
}

/// Why an endpoint's body is no set of answers. Never holds text of the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the endpoint did not answer with JSON")]
    Json,
    #[error("the endpoint refused the batch")]
    Refused,
    #[error("the endpoint answered something that was not asked")]
    Id,
    #[error("the endpoint's answer is no JSON-RPC 2.0")]
    Shape,
}

/// The body of a batch; ids are the places of the requests.
pub(super) fn encode(asks: &[Ask]) -> Vec<u8> {
    let batch: Vec<Value> = asks
        .iter()
        .enumerate()
        .map(|(id, ask)| json!({"jsonrpc": "2.0", "id": id, "method": ask.method, "params": ask.params}))
        .collect();
    Value::Array(batch).to_string().into_bytes()
}

/// Reads the answers of a batch into the order of its requests.
pub(super) fn decode(body: &[u8], count: usize) -> Result<Vec<Told>, Malformed> {
    let Value::Array(items) = serde_json::from_slice(body).map_err(|_| Malformed::Json)? else {
        return Err(Malformed::Refused);
    };
    let mut by_id = HashMap::new();
    for item in items {
        let (id, told) = read_item(item)?;
        if id >= count || by_id.insert(id, told).is_some() {
            return Err(Malformed::Id);
        }
    }
    Ok((0..count).map(|id| by_id.remove(&id).unwrap_or(Told::Missing)).collect())
}

fn read_item(item: Value) -> Result<(usize, Told), Malformed> {
    let Value::Object(mut item) = item else { return Err(Malformed::Shape) };
    if item.get("jsonrpc") != Some(&Value::from("2.0")) {
        return Err(Malformed::Shape);
    }
    let id = item.get("id").and_then(Value::as_u64).and_then(|id| usize::try_from(id).ok()).ok_or(Malformed::Id)?;
    let error = item.remove("error").filter(|error| !error.is_null());
    match (item.remove("result"), error) {
        (Some(result), None) => Ok((id, Told::Result(result))),
        (None | Some(Value::Null), Some(error)) => {
            let code = error.get("code").and_then(Value::as_i64).ok_or(Malformed::Shape)?;
            let message = error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
            Ok((id, Told::Error { code, message }))
        }
        _ => Err(Malformed::Shape),
    }
}

/// Whether an error is the contract's own refusal. Running out of gas is not: it says nothing of the contract.
pub(super) fn is_revert(code: i64, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    !message.contains("out of gas") && (code == 3 || message.contains("execution reverted") || message.contains("reverted with"))
}

/// A `0x` quantity without leading zeros, such as `0x7a69`.
pub(super) fn quantity(value: &Value) -> Option<u64> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// A `0x` quantity as a word.
pub(super) fn quantity_word(value: &Value) -> Option<[u8; 32]> {
    let digits = value.as_str()?.strip_prefix("0x")?;
    if digits.is_empty() || digits.len() > 64 {
        return None;
    }
    let mut word = [0; 32];
    hex::decode_to_slice(format!("{digits:0>64}"), &mut word).ok()?;
    Some(word)
}

/// `0x` data.
pub(super) fn data(value: &Value) -> Option<Vec<u8>> {
    hex::decode(value.as_str()?.strip_prefix("0x")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_put_in_order_and_gaps_are_seen() {
        let body = br#"[{"jsonrpc":"2.0","id":2,"result":"0x2"},{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"x"}}]"#;
        let told = decode(body, 3).unwrap();
        assert_eq!(told[0], Told::Error { code: -32000, message: "x".into() });
        assert_eq!(told[1], Told::Missing);
        assert_eq!(told[2], Told::Result("0x2".into()));
    }

    #[test]
    fn what_is_not_clearly_an_answer_is_malformed() {
        for body in [
            "<html>",
            "{}",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"no batches"}}"#,
            r#"[{"jsonrpc":"2.0","id":7,"result":"0x"}]"#,
            r#"[{"jsonrpc":"2.0","id":"0","result":"0x"}]"#,
            r#"[{"id":0,"result":"0x"}]"#,
            r#"[{"jsonrpc":"2.0","id":0}]"#,
            r#"[{"jsonrpc":"2.0","id":0,"result":"0x","error":{"code":1,"message":""}}]"#,
            r#"[{"jsonrpc":"2.0","id":0,"result":"0x1"},{"jsonrpc":"2.0","id":0,"result":"0x2"}]"#,
        ] {
            assert!(decode(body.as_bytes(), 1).is_err(), "{body}");
        }
    }

    #[test]
    fn running_out_of_gas_is_not_a_refusal() {
        assert!(is_revert(3, "execution reverted: nope"));
        assert!(is_revert(-32000, "execution reverted"));
        assert!(!is_revert(-32000, "out of gas"));
        assert!(!is_revert(-32005, "rate limited"));
    }

    proptest! {
        #[test]
        fn bytes_from_anywhere_never_panic(body: Vec<u8>, count in 0_usize..4) {
            let _ = decode(&body, count);
        }
    }
}

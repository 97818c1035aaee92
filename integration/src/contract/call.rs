//! Calls an RPC as its descriptors say: over gRPC at a port, and over REST at the edge.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _, SerializeOptions, Value};
use reqwest::{Method, header::HeaderMap};
use serde_json::Value as Json;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Answer, Input, Rpc};

/// Longer than any honest answer takes.
const CALL_BOUND: Duration = Duration::from_secs(60);
/// How long a stream that has let the caller in is listened to.
const STREAM_BOUND: Duration = Duration::from_millis(300);
/// More than any message may be.
const OVERSIZE_BYTES: usize = 5 * 1024 * 1024;
/// More than a line of HTTP may be.
const OVERSIZE_QUERY: usize = 128 * 1024;
/// A field number that no message uses.
const UNKNOWN_FIELD: u32 = 5_000;

/// One way to call an RPC over REST.
#[derive(Debug, Clone)]
pub struct Binding {
    /// HTTP method.
    pub method: Method,
    /// Path with variables in braces.
    pub template: String,
    /// `*`, a field, or empty for none.
    body: String,
}

impl Binding {
    /// What the annotation of an RPC says.
    pub(super) fn of(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Vec<Self>> {
        let http = pool.get_extension_by_name("google.api.http").context("google.api.http is not described")?;
        let options = method.options();
        if !options.has_extension(&http) {
            return Ok(Vec::new());
        }
        let rule = options.get_extension(&http);
        let rule = rule.as_message().context("google.api.http is a message")?;
        let mut found: Vec<Self> = Self::one(rule).into_iter().collect();
        if let Some(more) = rule.get_field_by_name("additional_bindings").as_deref().and_then(Value::as_list) {
            found.extend(more.iter().filter_map(|rule| Self::one(rule.as_message()?)));
        }
        Ok(found)
    }

    fn one(rule: &DynamicMessage) -> Option<Self> {
        let text = |name: &str| Some(rule.get_field_by_name(name)?.as_str()?.to_owned()).filter(|text| !text.is_empty());
        let verbs = ["get", "put", "post", "delete", "patch"];
        let (verb, template) = verbs.iter().find_map(|verb| Some((verb, text(verb)?)))?;
        let method = Method::from_bytes(verb.to_uppercase().as_bytes()).ok()?;
        Some(Self { method, template, body: text("body").unwrap_or_default() })
    }
}

/// The doors through which calls go.
#[derive(Debug, Clone)]
pub struct Doors {
    edge: Url,
    rest: reqwest::Client,
    grpc: reqwest::Client,
}

impl Doors {
    /// To the platform whose edge is at `edge`.
    ///
    /// # Errors
    /// When `edge` is not an address.
    pub fn new(edge: &str) -> Result<Self> {
        let rest = reqwest::Client::builder().timeout(CALL_BOUND).build()?;
        let grpc = reqwest::Client::builder().timeout(CALL_BOUND).http2_prior_knowledge().build()?;
        Ok(Self { edge: edge.parse()?, rest, grpc })
    }

    /// Calls over gRPC at a port.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn grpc(&self, port: u16, rpc: &Rpc, headers: HeaderMap, input: Input, message: &DynamicMessage) -> Result<Answer> {
        let request = self.grpc.post(format!("http://127.0.0.1:{port}{}", rpc.path)).headers(headers);
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let answer = request.body(framed(&grpc_bytes(input, message))).send().await.with_context(|| rpc.path.to_owned())?;
        let said = |headers: &HeaderMap| {
            let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            Some((text("grpc-status")?.parse::<u32>().ok()?, text("grpc-message").unwrap_or_default()))
        };
        if let Some((code, words)) = said(answer.headers()) {
            return Ok(Answer::of_grpc(code, &words, Bytes::new()));
        }
        let status = answer.status();
        let mut body = http::Response::<reqwest::Body>::from(answer).into_body();
        let is_stream = rpc.method.is_server_streaming();
        let (mut whole, mut end) = (BytesMut::new(), Instant::now() + CALL_BOUND);
        loop {
            let frame = match timeout_at(end, body.frame()).await {
                Ok(Some(frame)) => frame.with_context(|| rpc.path.to_owned())?,
                Ok(None) => return Ok(Answer::of_http(status.as_u16().max(400), whole.freeze())),
                Err(_) if is_stream && !whole.is_empty() => return Ok(Answer::of_grpc(0, "goes on", Bytes::new())),
                Err(_) => bail!("{} neither answers nor refuses", rpc.path),
            };
            if let Some((code, words)) = frame.trailers_ref().and_then(said) {
                return Ok(Answer::of_grpc(code, &words, whole.freeze()));
            }
            // Every stream says something at once. Whoever hears that was let in: no time decides it.
            if is_stream && whole.is_empty() {
                end = Instant::now() + STREAM_BOUND;
            }
            whole.extend_from_slice(frame.data_ref().map_or(&[], |bytes| bytes.as_ref()));
        }
    }

    /// Calls over REST at the edge.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn rest(&self, binding: &Binding, headers: HeaderMap, input: Input, message: &DynamicMessage) -> Result<Answer> {
        let mut fields = json(message)?;
        let mut url = self.edge.clone();
        url.set_path("");
        {
            let mut path = url.path_segments_mut().ok().context("the edge has a path")?;
            path.clear();
            for part in binding.template.trim_start_matches('/').split('/') {
                let variable = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
                match variable.map(|name| fields.remove(name).unwrap_or_else(|| "-".into())) {
                    Some(Json::String(text)) => path.push(&text),
                    Some(other) => path.push(&other.to_string()),
                    None => path.push(part),
                };
            }
        }
        let request = self.rest.request(binding.method.clone(), url.clone()).headers(headers.clone());
        let request = match (binding.body.as_str(), input) {
            ("", Input::Garbage) => self.rest.request(binding.method.clone(), broken_query(url)).headers(headers),
            ("", Input::Oversize) => request.query(&[("page_token", "x".repeat(OVERSIZE_QUERY))]),
            ("", _) => request.query(&query(fields)),
            (_, Input::Garbage) => request.header("content-type", "application/json").body("{\"title\": [}"),
            (_, Input::Oversize) => request.header("content-type", "application/json").body(oversize_json()),
            ("*", _) => request.json(&fields),
            (field, _) => request.json(&fields.remove(field).unwrap_or_else(|| Json::Object(serde_json::Map::new()))),
        };
        let what = || format!("{} {}", binding.method, binding.template);
        let answer = match request.send().await {
            Ok(answer) => answer,
            // The edge may end a connection whose request is too large before it is sent.
            Err(_) if input == Input::Oversize => return Ok(Answer::of_http(413, Bytes::new())),
            Err(error) => return Err(error).with_context(what),
        };
        let status = answer.status().as_u16();
        Ok(Answer::of_http(status, answer.bytes().await.with_context(what)?))
    }
}

fn grpc_bytes(input: Input, message: &DynamicMessage) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    match input {
        Input::Garbage => vec![0xff; 32],
        Input::Oversize => {
            prost::encoding::bytes::encode(UNKNOWN_FIELD, &vec![7_u8; OVERSIZE_BYTES], &mut bytes);
            bytes
        }
        _ => bytes,
    }
}

/// With the five bytes that gRPC puts before a message.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

fn json(message: &DynamicMessage) -> Result<serde_json::Map<String, Json>> {
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    if let Ok(json) = message.serialize_with_options(serde_json::value::Serializer, &options) {
        return Ok(json.as_object().cloned().unwrap_or_default());
    }
    // JSON has no words for some absurd values, such as a time beyond the calendar: what stands there is no time at all.
    let mut fields = serde_json::Map::new();
    for (field, value) in message.fields() {
        let mut alone = DynamicMessage::new(message.descriptor());
        alone.set_field(&field, value.clone());
        let json = alone.serialize_with_options(serde_json::value::Serializer, &options).unwrap_or_default();
        let one = json.get(field.name()).cloned().unwrap_or_else(|| "+292277026596-12-04T15:30:08Z".into());
        fields.insert(field.name().to_owned(), one);
    }
    Ok(fields)
}

/// Fields as a query: nested ones with a dot, repeated ones as often as they are.
fn query(fields: serde_json::Map<String, Json>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut waiting: Vec<(String, Json)> = fields.into_iter().collect();
    while let Some((name, value)) = waiting.pop() {
        match value {
            Json::Object(inner) => waiting.extend(inner.into_iter().map(|(key, value)| (format!("{name}.{key}"), value))),
            Json::Array(items) => waiting.extend(items.into_iter().map(|item| (name.clone(), item))),
            Json::String(text) => pairs.push((name, text)),
            Json::Null => {}
            other => pairs.push((name, other.to_string())),
        }
    }
    pairs
}

fn broken_query(mut url: Url) -> Url {
    url.set_query(Some("no_such_field=1&page_size=many&%ff=%fe"));
    url
}

fn oversize_json() -> String {
    format!("{{\"title\": \"{}\"}}", "x".repeat(OVERSIZE_BYTES))
}

//! REST from the `google.api.http` annotations of the contracts: one transcoder for every RPC.
//!
//! [`table`] finds the RPC for a method and a path, [`headers`], [`input`] and [`json`] read the request
//! into its message, [`codec`] carries the encoded bytes, [`mod@write`] turns those of the answer into JSON by
//! their [`shape`], and [`Transcoder`] makes the call.

pub mod codec;
pub mod headers;
pub mod input;
pub mod json;
pub mod shape;
pub mod table;
pub mod tags;
pub mod template;
pub mod wire;
pub mod write;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use tonic::client::Grpc;

use crate::{
    backends::Backends,
    config::Config,
    context::CallContext,
    error::{Error, Result},
    rest::{
        codec::BytesCodec,
        headers::{Answer, ETAG, Wishes},
        table::{Binding, BodyRule, Found, Table},
    },
};

pub use headers::idempotency_key;

/// Answers REST calls.
#[derive(Debug, Clone)]
pub struct Transcoder {
    table: Arc<Table>,
    backends: Backends,
    body_limit: usize,
    response_limit: usize,
    timeout: Duration,
}

impl Transcoder {
    /// Serves every annotated RPC of `pool` out of `backends`.
    ///
    /// # Errors
    /// A sentence that names the annotation that can't be served.
    pub fn new(pool: &DescriptorPool, backends: Backends, config: &Config) -> std::result::Result<Self, String> {
        Ok(Self {
            table: Arc::new(Table::of(pool)?),
            backends,
            body_limit: config.json_body_bytes,
            response_limit: config.response_bytes,
            timeout: config.call_timeout(),
        })
    }

    /// The routes it serves.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Answers one call.
    pub async fn answer(&self, request: Request) -> Response {
        match self.try_answer(request).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        }
    }

    async fn try_answer(&self, request: Request) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let (binding, variables) = match self.table.find(&parts.method, parts.uri.path())? {
            Found::Route { binding, variables } => (binding, variables),
            Found::WrongMethod { allowed } => return Err(Error::WrongMethod { method: parts.method, allowed }),
            Found::Nothing => return Err(Error::UnknownPath),
        };
        let wishes = Wishes::of(binding, &parts.headers)?;
        let body = self.read_body(binding, &parts.headers, body).await?;
        let message = input::message(binding, &variables, parts.uri.query(), &body, &wishes)?;
        let context = CallContext::of(&parts.headers);
        let call = self.call_for_one_of(binding, &context, message, &wishes.other_etags);
        let answer = tokio::time::timeout(self.timeout, call).await.map_err(|_| Error::TooSlow)??;
        let (shapes, shown) = (self.table.shapes(), shown(binding, &answer)?);
        let written = write::write(shapes, binding.shown, shown)?;
        Ok(json_response(wishes.answer(binding, write::etag(shapes, binding.shown, shown)?, written)))
    }

    async fn read_body(&self, binding: &Binding, headers: &HeaderMap, body: Body) -> Result<Bytes> {
        if matches!(binding.body, BodyRule::None) {
            return Ok(Bytes::new());
        }
        let bytes = match tokio::time::timeout(self.timeout, Limited::new(body, self.body_limit).collect()).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Error::TooLarge { limit_bytes: self.body_limit }),
            Ok(Err(error)) => return Err(Error::of_body(error.as_ref())),
            Err(_) => return Err(Error::SlowBody),
        };
        if !bytes.is_empty() && !is_json(headers) {
            return Err(Error::WrongMediaType { wanted: "application/json" });
        }
        Ok(bytes)
    }

    /// Calls again for each of the other versions that the change may be made to: a service asks for one.
    async fn call_for_one_of(
        &self,
        binding: &Binding,
        context: &CallContext,
        mut message: DynamicMessage,
        other_etags: &[String],
    ) -> Result<Bytes> {
        let mut outcome = self.call(binding, context, &message).await;
        for etag in other_etags {
            if !outcome.as_ref().is_err_and(Error::is_etag_mismatch) {
                break;
            }
            message.set_field_by_name(ETAG, Value::String(etag.clone()));
            outcome = self.call(binding, context, &message).await;
        }
        outcome
    }

    async fn call(&self, binding: &Binding, context: &CallContext, message: &DynamicMessage) -> Result<Bytes> {
        let mut client = Grpc::new(self.backends.channel(binding.service)).max_decoding_message_size(self.response_limit);
        client.ready().await?;
        let mut request = context.request(Bytes::from(message.encode_to_vec()));
        request.set_timeout(self.timeout);
        Ok(client.unary(request, binding.grpc_path.clone(), BytesCodec).await?.into_inner())
    }
}

/// What of the answer is shown: all of it, or the field of `response_body`.
fn shown<'a>(binding: &Binding, answer: &'a [u8]) -> Result<&'a [u8]> {
    let Some(field) = &binding.response_field else { return Ok(answer) };
    // A message that was left out is one with nothing in it.
    Ok(write::bytes_at(answer, field.number())?.unwrap_or_default())
}

/// Whether the headers name JSON as the body.
#[must_use]
pub fn is_json_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CONTENT_TYPE) && is_json(headers)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    let Ok(kind) = kind.to_str() else { return false };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn json_response(mut answer: Answer) -> Response {
    let body = answer.body.take();
    let has_body = body.is_some();
    let mut response = Response::new(body.map_or_else(Body::empty, Body::from));
    *response.status_mut() = answer.status;
    answer.head(response.headers_mut());
    if has_body {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// `HEAD` is answered as `GET` is; the server leaves the body out.
pub(crate) fn served_as(method: &Method) -> &Method {
    if *method == Method::HEAD { &Method::GET } else { method }
}

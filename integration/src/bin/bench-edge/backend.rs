//! The service behind both: it answers with one title, and does as little as can be.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::Result;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use streamgate_proto::streamgate::{
    gate::v1::{Erc721, Group, Rule, SignedIn, rule::Kind},
    metadata::v1::{Content, CreateContentResponse, GetContentResponse},
};
use tokio::net::TcpListener;

/// The RPCs that are answered, by the end of their paths.
const READ: &str = "/GetContent";
const WRITE: &str = "/CreateContent";
/// gRPC's words for fine, and for an RPC that is not there.
const OK: &str = "0";
const UNIMPLEMENTED: &str = "12";

/// Serves it on a free port until the program ends.
pub async fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let read = framed(&GetContentResponse { content: Some(title()) });
    let write = framed(&CreateContentResponse { content: Some(title()) });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (read, write) = (read.clone(), write.clone());
            let service = service_fn(move |request| {
                let (read, write) = (read.clone(), write.clone());
                async move { Ok::<_, Infallible>(answer(request, &read, &write).await) }
            });
            tokio::spawn(async move {
                // A caller that goes away is no failure here.
                let _ = Builder::new(TokioExecutor::new()).http2_only().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

async fn answer(request: Request<Incoming>, read: &Bytes, write: &Bytes) -> Response<BoxBody<Bytes, Infallible>> {
    let frame = match request.uri().path() {
        path if path.ends_with(READ) => Some(read.clone()),
        path if path.ends_with(WRITE) => Some(write.clone()),
        _ => None,
    };
    // The caller's message is read to its end, as any service does.
    let _ = request.into_body().collect().await;
    let status = if frame.is_some() { OK } else { UNIMPLEMENTED };
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))]);
    let body = Full::new(frame.unwrap_or_default()).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn framed(message: &impl prost::Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message.encode_to_vec());
    frame.freeze()
}

/// A title as creators have them: tags, attributes, public ids, and a gate of two rules.
fn title() -> Content {
    let token =
        Erc721 { chain: "eip155:1".into(), contract: "0x52908400098527886e0f7030069857d2e4169ee7".into(), ..Default::default() };
    let rules = vec![Rule { kind: Some(Kind::SignedIn(SignedIn::default())) }, Rule { kind: Some(Kind::Erc721(token)) }];
    let time = |seconds| prost_types::Timestamp { seconds, nanos: 250_000_000 };
    Content {
        content_id: "cnt_01jd3v8yh2f5r8w0k4m6n7p9qs".into(),
        owner: "acc_01jd3v8yh2f5r8w0k4m6n7p9qt".into(),
        title: "A walk through the old harbour \u{2013} part 2".into(),
        description:
            "Boats, gulls and \"one\" very patient cat.\nFilmed in a single take on a grey morning; no sound was added, \
                      and nothing was cut. Watch it with headphones if you can."
                .into(),
        tags: ["harbour", "walk", "boats", "one take"].map(str::to_owned).to_vec(),
        status: "ready".into(),
        // A whole number may be written as 1 or as 1.0; a half is the same everywhere.
        progress: 0.5,
        playable: true,
        playback_ids: vec!["pbk_8x2mq0v7c1".into()],
        gate: Some(Rule { kind: Some(Kind::All(Group { rules })) }),
        gate_hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        duration_ms: 634_567,
        width: 1920,
        height: 1080,
        create_time: Some(time(1_795_000_000)),
        update_time: Some(time(1_795_000_600)),
        revision: 17,
        etag: "17-3f9a".into(),
        attributes: [("camera", "handheld"), ("series", "harbours")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ..Default::default()
    }
}

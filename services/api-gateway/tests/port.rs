//! The edge on a port of its own, as the runtime serves it: gRPC, gRPC-Web and REST side by side.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "a stranger's client, which has no mesh")]

mod common;

use common::{Seen, behind};
use http::header::{ACCEPT, CONTENT_TYPE};
use prost::Message as _;
use streamgate_api_gateway::{Config, ending::Ending, grpc::Gateway, metrics::EdgeMetrics, router::router};
use streamgate_core::{Failure, ServiceName};
use streamgate_proto::streamgate::{
    gateway::v1::{
        GetVersionRequest, gateway_service_client::GatewayServiceClient, gateway_service_server::GatewayServiceServer,
    },
    upload::v1::{
        CreateUploadRequest, ListUploadsRequest, WriteUploadHeader, WriteUploadRequest,
        upload_service_client::UploadServiceClient, write_upload_request::Part,
    },
};
use streamgate_runtime::{CancellationToken, Running, Service, testing::serve};
use tonic::{Code, Request, transport::Channel};

struct Port {
    seen: Seen,
    _running: Running,
    url: String,
}

impl Port {
    async fn open() -> Self {
        let seen = Seen::default();
        let backends = behind(&seen);
        let ending = Ending::with(CancellationToken::new());
        let routes = router(&backends, &Config::default(), "http://localhost:9090", &EdgeMetrics::default(), ending).unwrap();
        let own = GatewayServiceServer::new(Gateway::new(backends));
        let service = Service::new().grpc(own).grpc_fallback(routes.clone()).http(routes);
        let running = serve(ServiceName::ApiGateway, service).await.unwrap();
        let url = running.mesh().target(ServiceName::ApiGateway).to_owned();
        Self { seen, _running: running, url }
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    /// One HTTP/1.1 call, as a browser makes it.
    async fn browser(&self, path: &str, kind: &str, body: Vec<u8>) -> (u16, http::HeaderMap, Vec<u8>) {
        let request = reqwest::Client::new().post(format!("{}{path}", self.url)).bearer_auth("sgk_1");
        let answer = request.header(CONTENT_TYPE, kind).header(ACCEPT, kind).body(body).send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        (status, headers, answer.bytes().await.unwrap().to_vec())
    }
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    [&[0], &u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat()
}

fn signed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", "Bearer sgk_1".parse().unwrap());
    request
}

#[tokio::test]
async fn a_grpc_client_reaches_the_edge_and_every_service_behind_it_on_one_port() {
    let port = Port::open().await;
    let channel = port.channel().await;
    let version = GatewayServiceClient::new(channel.clone()).get_version(GetVersionRequest {}).await.unwrap();
    assert_eq!(version.into_inner().name, "streamgate");

    let mut uploads = UploadServiceClient::new(channel);
    let listed = uploads.list_uploads(signed(ListUploadsRequest { page_size: 5, ..Default::default() })).await.unwrap();
    assert_eq!(listed.into_inner().next_page_token, "after 5");
    let parts =
        [Part::Header(WriteUploadHeader { upload_id: "upl_1".into(), offset_bytes: 0 }), Part::Chunk(vec![7; 70_000].into())];
    let messages = parts.map(|part| WriteUploadRequest { part: Some(part) });
    uploads.write_upload(signed(tokio_stream::iter(messages))).await.unwrap();
    assert_eq!(port.seen.0.lock().unwrap().bytes.len(), 70_000);

    let refused = uploads.create_upload(CreateUploadRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), Failure::from(&refused).reason.as_ref()), (Code::Unauthenticated, "credentials_missing"));
}

#[tokio::test]
async fn a_browser_reaches_the_same_over_grpc_web() {
    let port = Port::open().await;
    let list = framed(&ListUploadsRequest { page_size: 6, ..Default::default() });
    let path = "/streamgate.upload.v1.UploadService/ListUploads";
    let (status, headers, body) = port.browser(path, "application/grpc-web+proto", list.clone()).await;
    assert_eq!((status, headers[CONTENT_TYPE].to_str().unwrap()), (200, "application/grpc-web+proto"));
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("after 6") && text.contains("grpc-status:0"), "{text}");

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let (_, headers, body) = port.browser(path, "application/grpc-web-text", STANDARD.encode(&list).into_bytes()).await;
    assert!(headers[CONTENT_TYPE].to_str().unwrap().starts_with("application/grpc-web-text"));
    // Frames are padded one by one, so padding stands inside the body; four letters decode on their own.
    let decoded: Vec<u8> = body.chunks(4).flat_map(|letters| STANDARD.decode(letters).unwrap()).collect();
    let text = String::from_utf8_lossy(&decoded);
    assert!(text.contains("after 6") && text.contains("grpc-status:0"), "{text}");

    let own = "/streamgate.gateway.v1.GatewayService/GetVersion";
    let (_, _, body) = port.browser(own, "application/grpc-web+proto", framed(&GetVersionRequest {})).await;
    assert!(String::from_utf8_lossy(&body).contains("streamgate"));
    let internal = "/streamgate.upload.v1.UploadService/SweepUploads";
    let (_, headers, body) = port.browser(internal, "application/grpc-web+proto", framed(&())).await;
    let told = format!("{headers:?} {}", String::from_utf8_lossy(&body));
    assert!(told.contains("grpc-status") && told.contains('7'), "{told}");
}

#[tokio::test]
async fn rest_is_served_beside_them() {
    let port = Port::open().await;
    let body = br#"{"filename": "a.mp4"}"#.to_vec();
    let (status, headers, body) = port.browser("/api/v1/uploads", "application/json", body).await;
    assert_eq!(
        (status, headers[CONTENT_TYPE].to_str().unwrap()),
        (200, "application/json"),
        "{}",
        String::from_utf8_lossy(&body)
    );
    assert!(headers.contains_key("ratelimit"), "a caller with an address is told what is left");
    assert!(ListUploadsRequest::decode(&body[..]).is_err(), "JSON, not protobuf");
}

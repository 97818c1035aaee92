//! Helpers for tests of services: one service, built by hand, on a port of its own.

use std::path::Path;

use streamgate_client::{Mesh, MeshSecret};
use streamgate_core::ServiceName;
use tokio_util::sync::CancellationToken;

use crate::{
    Boot, Common, ConfigSource, Metrics, Running, Service, StartError, config::Settings, server, storage, stores::Needs,
};

/// A secret that tests share.
const SECRET: &[u8] = b"a secret that only tests share";

/// A mesh as `own` sees it, with the given targets. Others are at ports where nobody listens.
///
/// # Errors
/// A target that is no URL.
pub fn mesh(own: ServiceName, targets: &[(ServiceName, String)]) -> Result<Mesh, StartError> {
    let Some(secret) = MeshSecret::new(SECRET) else {
        return Err(StartError::DataFolder("the secret is too short".to_owned()));
    };
    let mut builder = Mesh::builder(own, secret);
    for name in ServiceName::ALL {
        // Port 1 is privileged and unused.
        builder = builder.target(name, "http://127.0.0.1:1");
    }
    for (name, url) in targets {
        builder = builder.target(*name, url);
    }
    Ok(builder.build()?)
}

/// What a service is built from, with its data under `data_dir`.
///
/// # Errors
/// A data folder that can't be written.
pub fn boot<C>(own: ServiceName, config: C, data_dir: &Path) -> Result<Boot<C>, StartError> {
    storage::prepare(data_dir)?;
    let common = Common { data_dir: data_dir.to_owned(), public_url: "http://localhost:9090".to_owned(), ..Common::default() };
    let (name, needs) = (own, Needs::default());
    Ok(Boot { name, needs, config, common, mesh: mesh(own, &[])?, metrics: Metrics::new(own), stop: CancellationToken::new() })
}

/// Serves one service on a loopback port that the system chooses. `Running::mesh` reaches it.
///
/// # Errors
/// No port, or a service whose contracts can't be described.
pub async fn serve(name: ServiceName, service: Service) -> Result<Running, StartError> {
    let source = ConfigSource::new().yaml("server: {host: 127.0.0.1, port: 0, notice_ms: 0, grace_ms: 5000}");
    let settings = Settings::load(&source)?;
    let listener = server::bind(name, settings.server.host, 0).await?;
    let addr = listener.local_addr().map_err(|error| StartError::Port(error.to_string()))?;
    let mesh = mesh(ServiceName::ApiGateway, &[(name, format!("http://{addr}"))])?;
    Running::single(name, listener, mesh, &settings, service).await
}

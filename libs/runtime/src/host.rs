//! Several services, or one, in one process. They come up at once, each waiting for what it needs itself, and
//! go down the edge first.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, process::ExitCode};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use streamgate_client::{BadTarget, Mesh};
use streamgate_core::{ServiceName, error::chain};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    App, Boot, BoxError, Common, ConfigError, ConfigSource, Metrics, Service,
    audit::Auditor,
    config::Settings,
    logs::{self, Waiting},
    server, starting, storage,
    stores::Needs,
    telemetry::Telemetry,
    unit::{Unit, UnitParts},
};

/// Exit codes as in `sysexits.h`.
const EX_CONFIG: u8 = 64;
const EX_SOFTWARE: u8 = 70;
const EX_OSERR: u8 = 71;
const EX_CANTCREAT: u8 = 73;
/// What a shell shows for a process that was interrupted.
const INTERRUPTED: u8 = 130;

/// Why services did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port can't be had.
    #[error("{0}")]
    Port(String),
    /// The data folder can't be used.
    #[error("{0}")]
    DataFolder(String),
    /// A service could not be built.
    #[error("{name} could not start: {reason}")]
    Build {
        /// Which one.
        name: ServiceName,
        /// Why, with causes.
        reason: String,
    },
    /// A task failed meanwhile that the process can't do without.
    #[error("a background task failed; the log says which one, and why")]
    Task,
}

impl StartError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => EX_CONFIG,
            Self::Port(_) => EX_OSERR,
            Self::DataFolder(_) => EX_CANTCREAT,
            Self::Build { .. } | Self::Task => EX_SOFTWARE,
        }
    }
}

impl From<server::BindError> for StartError {
    fn from(error: server::BindError) -> Self {
        Self::Port(error.to_string())
    }
}

impl From<storage::Error> for StartError {
    fn from(error: storage::Error) -> Self {
        Self::DataFolder(error.to_string())
    }
}

impl From<BadTarget> for StartError {
    fn from(error: BadTarget) -> Self {
        Self::Config(ConfigError(format!("mesh.targets: {error}")))
    }
}

/// A service that takes longer to build answers meanwhile that it is not ready.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(300);

/// What every service is built from, whatever its configuration type.
struct Parts {
    name: ServiceName,
    needs: Needs,
    common: Common,
    mesh: Mesh,
    metrics: Metrics,
    stop: CancellationToken,
}

type Build = Box<dyn FnOnce(Parts) -> BoxFuture<'static, Result<Service, BoxError>> + Send>;

type Configure = Box<dyn FnOnce(&Settings) -> Result<Build, ConfigError> + Send>;

/// A service that was added: its name, and how its section is read.
struct Planned {
    name: ServiceName,
    configure: Configure,
}

/// Services that will run in one process.
#[derive(Default)]
pub struct Host {
    planned: Vec<Planned>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.planned.iter().map(|planned| planned.name)).finish()
    }
}

impl Host {
    /// No services yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a service.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "nothing is summed here")]
    pub fn add<A: App>(mut self) -> Self {
        self.planned.push(Planned {
            name: A::NAME,
            configure: Box::new(|settings| {
                let config = settings.section::<A::Config>(A::NAME)?;
                Ok(Box::new(move |parts: Parts| {
                    let Parts { name, needs, common, mesh, metrics, stop } = parts;
                    A::build(Boot { name, needs, config, common, mesh, metrics, stop })
                }))
            }),
        });
        self
    }

    /// Starts all services in this process, for as long as the result lives.
    ///
    /// # Errors
    /// What is wrong with the configuration, a port, the data folder or a service.
    pub async fn start(self, source: ConfigSource) -> Result<Running, StartError> {
        self.start_with(Settings::load(&source)?).await
    }

    async fn start_with(self, settings: Settings) -> Result<Running, StartError> {
        let alone = self.planned.len() == 1;
        let mut builds = Vec::new();
        for planned in self.planned {
            builds.push((planned.name, (planned.configure)(&settings)?));
        }
        let mut listeners = BTreeMap::new();
        for (name, _) in &builds {
            let listener = server::bind(*name, settings.host(*name, alone), settings.port(*name, alone)).await?;
            let addr = listener.local_addr().map_err(|error| StartError::Port(format!("{name}: {error}")))?;
            listeners.insert(*name, (listener, addr));
        }
        storage::prepare(&settings.data_dir)?;
        let addrs: BTreeMap<_, _> = listeners.iter().map(|(name, (_, addr))| (*name, *addr)).collect();
        let mesh = mesh(&settings, &addrs)?;
        let common = common(&settings, &mesh);
        let mut running = Running::new(addrs, mesh, &settings);
        running.audited_in = Some(settings.data_dir.clone());
        let building = builds.into_iter().map(|(name, build)| {
            let listener = listeners.remove(&name).map(|(listener, _)| listener);
            running.build(name, build, common.clone(), listener)
        });
        // All at once: each may wait for a server of its own.
        let (units, outcome) = all_or_failure(building.collect(), &running.fatal).await;
        running.units = units;
        if let Err(error) = outcome {
            // Nobody was told that they are ready, so nobody needs notice.
            running.shut_down().await;
            return Err(error);
        }
        running.announce().await;
        Ok(running)
    }

    /// Runs all services until the process is told to stop.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let settings = match ConfigSource::of_process().and_then(|source| Settings::load(&source)) {
            Ok(settings) => settings,
            Err(error) => return refuse(&StartError::Config(error)),
        };
        // Fails when it is installed already, which is as good.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return refuse(&StartError::Port(format!("the system gave no threads or timers: {error}"))),
        };
        let code = runtime.block_on(self.run_with(settings));
        // Blocking work that hangs must not keep a process that has said goodbye.
        runtime.shutdown_background();
        code
    }

    async fn run_with(self, settings: Settings) -> ExitCode {
        let (process, service) = match self.planned.as_slice() {
            [only] => (only.name.as_str(), only.name),
            _ => ("streamgate", ServiceName::ApiGateway),
        };
        let (telemetry, waiting) = match Telemetry::install(&settings.log, &settings.telemetry, process, service) {
            Ok(installed) => installed,
            Err(error) => return refuse(&StartError::Config(error)),
        };
        let code = self.run_until_told(settings, service, waiting).await;
        telemetry.flush().await;
        code
    }

    async fn run_until_told(self, settings: Settings, service: ServiceName, waiting: Option<Waiting>) -> ExitCode {
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            return refuse(&StartError::Port("signals can't be received".to_owned()));
        };
        let mut told = async move || tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        let running = tokio::select! {
            started = self.start_with(settings) => match started {
                Ok(running) => running,
                Err(error) => return refuse(&error),
            },
            _ = told() => return ExitCode::from(INTERRUPTED),
        };
        let shipping = waiting.map(|waiting| Shipping::start(waiting, running.mesh().as_service(service)));
        let failed = tokio::select! {
            signal = told() => { tracing::info!(signal, "stopping"); false }
            () = running.failed() => true,
        };
        tokio::select! {
            () = running.stop() => {}
            signal = told() => { tracing::info!(signal, "stopping at once"); return ExitCode::from(INTERRUPTED) }
        }
        if let Some(shipping) = shipping {
            shipping.stop().await;
        }
        if failed { ExitCode::from(EX_SOFTWARE) } else { ExitCode::SUCCESS }
    }
}

/// Log lines on their way to the monitor.
struct Shipping {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Shipping {
    fn start(waiting: Waiting, mesh: Mesh) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(logs::ship(waiting, mesh, stop.clone())), stop }
    }

    /// Sends what is left. The monitor may be gone, so nothing hangs on it.
    async fn stop(self) {
        self.stop.cancel();
        let _ended = self.task.await;
    }
}

/// Waits until all are built, or one can't be, or fails again: those that wait for ever must not hide that. Gives
/// what was built until then.
async fn all_or_failure(
    mut building: FuturesUnordered<impl Future<Output = Result<Unit, StartError>>>,
    fatal: &CancellationToken,
) -> (Vec<Unit>, Result<(), StartError>) {
    let (mut units, mut outcome) = (Vec::new(), Ok(()));
    loop {
        let next = match outcome {
            Ok(()) => fatal.run_until_cancelled(building.next()).await.unwrap_or(Some(Err(StartError::Task))),
            // What has come about in the same moment, and no more.
            Err(_) => building.next().now_or_never().flatten(),
        };
        match next {
            Some(Ok(unit)) => units.push(unit),
            Some(Err(error)) if outcome.is_ok() => outcome = Err(error),
            Some(Err(error)) => tracing::error!(%error, "another service can't start either"),
            None => return (units, outcome),
        }
    }
}

/// Other services in this process are reached where they listen, the rest where the configuration says.
fn mesh(settings: &Settings, addrs: &BTreeMap<ServiceName, SocketAddr>) -> Result<Mesh, StartError> {
    let secret = storage::mesh_secret(&settings.mesh_secret, &settings.data_dir)?;
    let mut builder = Mesh::builder(ServiceName::ApiGateway, secret);
    for (name, url) in &settings.targets {
        builder = builder.target(*name, url);
    }
    for (name, addr) in addrs {
        builder = builder.target(*name, format!("http://{}", reachable(*addr)));
    }
    Ok(builder.build()?)
}

/// An address that listens everywhere is reached on loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

fn common(settings: &Settings, mesh: &Mesh) -> Common {
    let port = mesh.target(ServiceName::ApiGateway).rsplit_once(':').map_or("9090", |(_, port)| port).to_owned();
    let derived = || format!("http://localhost:{port}");
    Common {
        data_dir: settings.data_dir.clone(),
        public_url: Some(settings.public_url.clone()).filter(|url| !url.is_empty()).unwrap_or_else(derived),
        operator_wallets: settings.operator_wallets.clone(),
        chains: settings.chains.clone(),
        redis: settings.redis.clone(),
        stores: settings.stores.clone(),
        events: settings.events.clone(),
    }
}

#[allow(clippy::print_stderr, reason = "the log may not be there yet, and an operator reads this one sentence")]
fn refuse(error: &StartError) -> ExitCode {
    eprintln!("streamgate: {error}");
    ExitCode::from(error.exit_code())
}

/// Services that are up.
#[derive(Debug)]
pub struct Running {
    addrs: BTreeMap<ServiceName, SocketAddr>,
    mesh: Mesh,
    units: Vec<Unit>,
    fatal: CancellationToken,
    notice: std::time::Duration,
    grace: std::time::Duration,
    /// The data folder where calls are noted; absent for a service that a test built by hand.
    audited_in: Option<PathBuf>,
}

impl Running {
    fn new(addrs: BTreeMap<ServiceName, SocketAddr>, mesh: Mesh, settings: &Settings) -> Self {
        let (notice, grace) = (settings.notice(), settings.grace());
        Self { addrs, mesh, units: Vec::new(), fatal: CancellationToken::new(), notice, grace, audited_in: None }
    }

    async fn build(
        &self,
        name: ServiceName,
        build: Build,
        common: Common,
        listener: Option<TcpListener>,
    ) -> Result<Unit, StartError> {
        let failed = |reason: String| StartError::Build { name, reason };
        let mut listener = listener.ok_or_else(|| failed("it was added twice".to_owned()))?;
        let needs = Needs::default();
        let (metrics, stop) = (Metrics::new(name), CancellationToken::new());
        let mesh = self.mesh.as_service(name);
        let parts =
            Parts { name, needs: needs.clone(), common, mesh: mesh.clone(), metrics: metrics.clone(), stop: stop.clone() };
        let mut building = build(parts);
        let built = match tokio::time::timeout(PATIENCE, &mut building).await {
            Ok(built) => built,
            Err(_) => {
                let lent = starting::answer(listener, name, needs.clone()).map_err(|error| failed(error.to_string()))?;
                let (own, _answering) = lent;
                listener = own;
                building.await
            }
        };
        let mut service = built.map_err(|error| failed(chain(error.as_ref())))?;
        service.checks.extend(needs.take());
        let auditor = self.auditor(name, &metrics)?;
        let parts = UnitParts { name, listener, mesh, metrics, stop, fatal: self.fatal.clone(), auditor };
        Unit::serve(parts, service).await.map_err(failed)
    }

    fn auditor(&self, name: ServiceName, metrics: &Metrics) -> Result<Option<Auditor>, StartError> {
        let Some(folder) = &self.audited_in else { return Ok(None) };
        let opened = Auditor::open(folder, name, metrics);
        let failed =
            |error| StartError::DataFolder(format!("the audit log of {name} can't be written in {}: {error}", folder.display()));
        opened.map(Some).map_err(failed)
    }

    async fn announce(&self) {
        for unit in &self.units {
            unit.ready().await;
        }
        for (name, addr) in &self.addrs {
            tracing::info!(service = %name, %addr, "ready");
        }
    }

    /// Serves one service that was built by hand.
    pub(crate) async fn single(
        name: ServiceName,
        listener: TcpListener,
        mesh: Mesh,
        settings: &Settings,
        service: Service,
    ) -> Result<Self, StartError> {
        let addr = listener.local_addr().map_err(|error| StartError::Port(error.to_string()))?;
        let mut running = Self::new(BTreeMap::from([(name, addr)]), mesh, settings);
        let build: Build = Box::new(move |_| Box::pin(async move { Ok(service) }));
        let unit = running.build(name, build, Common::default(), Some(listener)).await?;
        running.units.push(unit);
        running.announce().await;
        Ok(running)
    }

    /// Where a service listens; absent when it does not run here.
    #[must_use]
    pub fn addr(&self, name: ServiceName) -> Option<SocketAddr> {
        self.addrs.get(&name).copied()
    }

    /// Base URL of a service, such as `http://127.0.0.1:9090`.
    #[must_use]
    pub fn url(&self, name: ServiceName) -> &str {
        self.mesh.target(name)
    }

    /// The services as the gateway sees them.
    #[must_use]
    pub const fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Waits until a task fails that the process can't do without.
    pub async fn failed(&self) {
        self.fatal.cancelled().await;
    }

    /// Stops: nobody is ready, a notice, then the edge, then the others, each with its tasks.
    pub async fn stop(self) {
        join_all(self.units.iter().map(Unit::not_ready)).await;
        tokio::time::sleep(self.notice).await;
        self.shut_down().await;
    }

    /// Takes no longer than the grace for all of them together.
    async fn shut_down(self) {
        let began = Instant::now();
        let (edge, behind): (Vec<Unit>, Vec<Unit>) =
            self.units.into_iter().partition(|unit| unit.name() == ServiceName::ApiGateway);
        // Streams through the edge may last as long as they are let, and the others finish their work only after it.
        let edge_grace = if behind.is_empty() { self.grace } else { self.grace / 2 };
        join_all(edge.into_iter().map(|unit| unit.stop(began + edge_grace))).await;
        join_all(behind.into_iter().map(|unit| unit.stop(began + self.grace))).await;
    }
}

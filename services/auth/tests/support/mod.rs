//! The service on a loopback port, wallets that sign, and a look into its database.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};

use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use streamgate_auth::{App, Config, MIGRATIONS};
use streamgate_chain::signature::personal_hash;
use streamgate_core::{
    Failure, ServiceName,
    evm::{Address, keccak256},
};
use streamgate_proto::streamgate::auth::v1::{self as pb, auth_service_client::AuthServiceClient};
use streamgate_runtime::{App as _, ConfigSource, Running, Stores, testing};
use streamgate_store::{Database, PostgresServer};
use streamgate_testkit::rows::OnServer;
use tonic::{Request, Status, transport::Channel};

pub const ORIGIN: &str = "http://localhost:9090";

/// A wallet with a real key.
#[derive(Clone)]
pub struct Wallet(SecretKey);

impl Wallet {
    pub fn new(seed: u8) -> Self {
        Self(SecretKey::from_byte_array([seed; 32]).unwrap())
    }

    pub fn address(&self) -> Address {
        let hash = keccak256(&PublicKey::from_secret_key(SECP256K1, &self.0).serialize_uncompressed()[1..]);
        Address::new(hash[12..].try_into().unwrap())
    }

    /// As `personal_sign` does.
    pub fn sign(&self, text: &str) -> String {
        let signed = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(personal_hash(text.as_bytes())), &self.0);
        let (recovery, compact) = signed.serialize_compact();
        format!("0x{}{:02x}", hex::encode(compact), 27 + i32::from(recovery))
    }
}

/// The wallet that is an operator here.
pub fn operator() -> Wallet {
    Wallet::new(9)
}

fn database(folder: &Path) -> PathBuf {
    folder.join("db/auth.db")
}

/// A database of its own for each folder, since the service names its schema itself.
fn server(at: &OnServer) -> PostgresServer {
    PostgresServer::parse(&at.own_database().unwrap()).unwrap()
}

/// The service's rows at `path`, or on the server that stands for it.
pub async fn open(path: &Path) -> Database {
    match OnServer::instead_of(path) {
        None => Database::open(path, &MIGRATIONS).await.unwrap(),
        Some(at) => Database::connect(&server(&at), "streamgate_auth", &MIGRATIONS).await.unwrap(),
    }
}

/// Statements that read a whole table, and why they may.
pub const READ_WHOLE: &[(&str, &str)] = &[
    (" signing_keys ", "two or three rows: a new key a month, withdrawn the month after"),
    ("WHERE role = 'operator' AND address IS NOT NULL", "once at each start"),
    ("SELECT count(*) FROM challenges", "a bounded number of challenges waits"),
    ("ORDER BY created_at, id LIMIT", "a bounded number of challenges waits"),
];

pub struct Service {
    pub running: Running,
    pub folder: PathBuf,
    channel: Channel,
    _temporary: Option<tempfile::TempDir>,
}

impl Service {
    pub async fn start() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().to_owned();
        Self { _temporary: Some(temporary), ..Self::on(folder, config, &[]).await }
    }

    /// On a folder that may have been used before, with endpoints of chains.
    pub async fn on(folder: PathBuf, config: Config, chains: &[(u64, String)]) -> Self {
        Self::build(folder, config, chains, &[operator()]).await
    }

    /// A replica, or what comes after it, with another list of operators.
    pub async fn beside(&self, operators: &[Wallet]) -> Self {
        Self::build(self.folder.clone(), Config::default(), &[], operators).await
    }

    async fn build(folder: PathBuf, config: Config, chains: &[(u64, String)], operators: &[Wallet]) -> Self {
        let mut boot = testing::boot(ServiceName::Auth, config, &folder).unwrap();
        boot.common.operator_wallets = operators.iter().map(|wallet| wallet.address().lower()).collect();
        boot.common.chains = chains.iter().map(|(chain, url)| (*chain, vec![url.clone()])).collect();
        if let Some(server) = OnServer::instead_of(&database(&folder)).map(|at| server(&at)) {
            boot.common.stores = Stores::with_rows_on(server);
        }
        let service = App::build(boot).await.unwrap();
        let running = testing::serve(ServiceName::Auth, service).await.unwrap();
        #[allow(clippy::disallowed_methods, reason = "a test calls as a stranger, without the mesh")]
        let channel = Channel::from_shared(running.url(ServiceName::Auth).to_owned()).unwrap().connect_lazy();
        Self { running, folder, channel, _temporary: None }
    }

    /// The configuration that the service has, for tools that work on its database.
    pub fn source(&self) -> ConfigSource {
        let source = ConfigSource::new().env("STREAMGATE_DATA_DIR", self.folder.to_string_lossy());
        match OnServer::instead_of(&database(&self.folder)) {
            None => source,
            Some(at) => source.yaml(format!("database: {{url: '{}'}}", at.own_database().unwrap())),
        }
    }

    /// Somebody from outside, with no credentials unless the request carries them.
    pub fn client(&self) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// The database, to bring about what takes time.
    pub async fn database(&self) -> Database {
        open(&database(&self.folder)).await
    }

    pub async fn change(&self, sql: &'static str) {
        let mut tx = self.database().await.begin().await.unwrap();
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn challenge(&self, address: Address) -> pb::CreateChallengeResponse {
        self.try_challenge(address, "").await.unwrap()
    }

    pub async fn try_challenge(&self, address: Address, origin: &str) -> Result<pb::CreateChallengeResponse, Status> {
        let request = pb::CreateChallengeRequest { address: address.lower(), chain_id: 31337, origin: origin.into() };
        Ok(self.client().create_challenge(request).await?.into_inner())
    }

    pub async fn login(&self, challenge_id: &str, signature: String) -> Result<pb::LoginResponse, Status> {
        let request = pb::LoginRequest { challenge_id: challenge_id.into(), signature };
        Ok(self.client().login(request).await?.into_inner())
    }

    pub async fn sign_in(&self, wallet: &Wallet) -> pb::LoginResponse {
        let challenge = self.challenge(wallet.address()).await;
        self.login(&challenge.challenge_id, wallet.sign(&challenge.message)).await.unwrap()
    }

    pub async fn refresh(&self, token: &str) -> Result<pb::RefreshTokenResponse, Status> {
        Ok(self.client().refresh_token(pb::RefreshTokenRequest { refresh_token: token.into() }).await?.into_inner())
    }

    pub async fn account(&self, bearer_token: &str) -> Result<pb::Account, Status> {
        let answer = self.client().get_account(bearer(pb::GetAccountRequest {}, bearer_token)).await?;
        Ok(answer.into_inner().account.unwrap())
    }
}

/// The request with a bearer.
pub fn bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// The stable word of a refusal.
pub fn reason<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    Failure::from(&outcome.unwrap_err()).reason.into_owned()
}

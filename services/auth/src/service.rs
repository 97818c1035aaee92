//! From configuration to a running service, in steps.

use std::{collections::HashSet, fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use streamgate_chain::{Chains, Evaluator, rpc::Limits};
use streamgate_core::{
    ServiceName,
    evm::{Address, Wallet},
};
use streamgate_proto::streamgate::auth::v1::auth_service_server::AuthServiceServer;
use streamgate_runtime::{Boot, BoxError, CancellationToken, Service};
use streamgate_store::Migrations;

use crate::{Config, Error, Handler, LocalAuthenticator, Metrics, engine::Engine, origins::Origins};

/// Schema of the database, step by step.
pub static MIGRATIONS: Migrations = streamgate_store::migrations!();

/// How often what has expired is swept away, and the age of the signing key looked at.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(600);

/// The auth service.
#[derive(Debug)]
pub struct App;

#[async_trait]
impl streamgate_runtime::App for App {
    const NAME: ServiceName = ServiceName::Auth;
    type Config = Config;

    async fn build(boot: Boot<Config>) -> Result<Service, BoxError> {
        // 1. What the shared configuration says: operators, origins, chains.
        let operators = operators(&boot.common.operator_wallets)?;
        let origins = Origins::new(&boot.common.public_url, &boot.config.allowed_origins)
            .ok_or("public_url must be an origin, such as https://video.example")?;
        let chains = Chains::connect(&boot.common.chains, &Limits::default())?;

        // 2. The database, with the keys that tokens are signed with: nobody else may read it.
        let path = boot.common.database_path(ServiceName::Auth);
        let db = boot.database(&MIGRATIONS).await?;
        keep_private(&path)?;

        // 3. The behaviour and its RPCs.
        let metrics = Metrics::register(&boot.metrics);
        let engine = Engine::new(db, boot.config, origins, operators, Evaluator::new(chains), metrics).await?;
        let authenticator = LocalAuthenticator::new(engine.clone(), boot.mesh.authenticator());
        Ok(Service::new()
            .grpc(AuthServiceServer::new(Handler::new(engine.clone())))
            .authenticator(Arc::new(authenticator))
            // Rows that are over are refused anyway; sweeping late only costs room.
            .restarting_task("upkeep", move || upkeep(engine.clone(), boot.stop.clone())))
    }
}

fn operators(wallets: &[String]) -> Result<HashSet<Address>, String> {
    let read = |text: &String| match text.parse::<Address>() {
        Ok(address) => Ok(address),
        Err(what) => {
            text.parse::<Wallet>().map(|wallet| wallet.address).map_err(|_| format!("operator_wallets: {text:?} {what}"))
        }
    };
    wallets.iter().map(read).collect()
}

/// SQLite gives its side files the permissions of the database itself.
pub(crate) fn keep_private(path: &Path) -> Result<(), Error> {
    for name in [path.to_owned(), path.with_extension("db-wal"), path.with_extension("db-shm")] {
        if name.exists() {
            fs::set_permissions(&name, fs::Permissions::from_mode(0o600)).map_err(Error::Permissions)?;
        }
    }
    Ok(())
}

async fn upkeep(engine: Engine, stop: CancellationToken) -> Result<(), BoxError> {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        engine.rotate_signing_key_if_old().await?;
        engine.sweep().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_named_by_address_or_by_wallet() {
        let address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        let found = operators(&[address.to_lowercase(), format!("eip155:1:{address}")]).unwrap();
        assert_eq!(found, HashSet::from([address.parse().unwrap()]));
        assert!(operators(&["someone".into()]).is_err());
    }
}

